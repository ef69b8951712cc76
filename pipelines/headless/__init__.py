"""Drives a real ComfyUI over HTTP: starts it, queues one workflow, fetches the result, stops it.

host.py     finds the ComfyUI and its Python, and says whether they can run this pack
server.py   starts the process without a window, on temporary folders, and always stops it
client.py   talks to it: queues a workflow, follows its progress, fetches the result
"""
