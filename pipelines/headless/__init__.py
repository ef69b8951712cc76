"""Drives a real ComfyUI over HTTP: starts it, queues one workflow, fetches the result, stops it.

host.py     finds the ComfyUI and its Python, and checks that they can run this pack
server.py   starts the process without a window, on temporary folders, and always stops it
client.py   queues a workflow, follows its progress, fetches the result
"""
