"""Trains the embedded model. Start it from the repository root:

    python -m tools.train_embedded.train --out DIR --minutes 60

This trains everything, on a GPU or a CPU. --resume continues, until every stage is complete. DIR/export is
the result. `--start pipelines/embedded/weights` trains the shipped experts further. `side_by_side` does that
on one GPU with several processes, and `speech` writes the random model for speech.
"""
