"""How frames between two frames are made: FILM, RIFE, optical flow."""
