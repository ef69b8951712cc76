"""Runs a request at fal.ai or Novita: records every job before it is sent, and pays for it once."""
