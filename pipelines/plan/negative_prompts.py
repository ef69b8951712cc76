"""The negative prompts of the official code, which it uses where it is given none."""

from __future__ import annotations

__all__ = ["FIRST_AND_LAST", "IMAGE_21", "SPEECH", "WAN"]

# wan/configs/shared_config.py of Wan-Video/Wan2.2 42bf4cf and Wan-Video/Wan2.1 9737cba
WAN = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)
# wan/configs/wan_s2v_14B.py of Wan-Video/Wan2.2 42bf4cf
SPEECH = (
    "画面模糊，最差质量，画面模糊，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的，残缺的，多余的手指，画得不好的手部，"
    "画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
IMAGE_21 = "镜头晃动，" + WAN  # wan/configs/wan_i2v_14B.py of Wan-Video/Wan2.1 9737cba
FIRST_AND_LAST = "镜头切换，" + IMAGE_21  # wan/configs/__init__.py of Wan-Video/Wan2.1 9737cba
