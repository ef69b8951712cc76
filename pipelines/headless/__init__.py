"""How a real ComfyUI is driven: started without a window, given one workflow, and gone again.

host.py     which ComfyUI, which Python, and whether they can run this pack
server.py   the process: started on folders of its own, always stopped
client.py   the conversation: queue a workflow, follow it, fetch what it made
"""
