"""Lists the request nodes: one per task, with the order of its fields.

The order is fixed here instead of in the classes, because saved workflows store widgets by position. A new
field goes to the end, whatever its place in the contract. Media fields are last: their inputs are optional,
and ComfyUI lists optional inputs after the others.
"""

from __future__ import annotations

from .remote_tasks import REMOTE_NODES
from .task_row import RequestNode
from .task_row import request_node_row as _node

__all__ = ["LORAS", "REQUEST_NODES", "RequestNode"]

LORAS = "loras"  # the one field without a widget: WanDuetRequestLora adds to it

REQUEST_NODES = (
    _node(
        "WanDuetTextToVideo",
        "Wan Duet Text to Video",
        "text-to-video",
        "Describes a video to generate from a prompt. Connect it to a runner.",
        "wan 2.2 t2v, wan text to video, prompt to video",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale guidance_scale_2 shift acceleration interpolator_model
        num_interpolated_frames adjust_fps_for_interpolation video_quality video_write_mode
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion reverse_video""",
    ),
    _node(
        "WanDuetImageToVideo",
        "Wan Duet Image to Video",
        "image-to-video",
        "Describes a video to generate from its first frame, and optionally its last frame.",
        "wan 2.2 i2v, wan image to video, first last frame, last frame, animate image",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale guidance_scale_2 shift acceleration interpolator_model
        num_interpolated_frames adjust_fps_for_interpolation video_quality video_write_mode
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion reverse_video
        image_url end_image_url""",
    ),
    _node(
        "WanDuetTextToImage",
        "Wan Duet Text to Image",
        "text-to-image",
        "Describes an image to generate from a prompt.",
        "wan 2.2 t2i, wan text to image, prompt to image",
        """prompt negative_prompt image_size seed num_inference_steps guidance_scale guidance_scale_2 shift
        acceleration image_format enable_safety_checker enable_output_safety_checker
        enable_prompt_expansion reverse_video""",
    ),
    _node(
        "WanDuetImageToImage",
        "Wan Duet Image to Image",
        "image-to-image",
        "Describes how to change an image, and how strongly.",
        "wan 2.2 i2i, wan image to image, img2img, redraw",
        """prompt negative_prompt strength seed resolution aspect_ratio image_size num_inference_steps
        guidance_scale guidance_scale_2 shift acceleration image_format enable_safety_checker
        enable_output_safety_checker enable_prompt_expansion image_url""",
    ),
    _node(
        "WanDuetVideoToVideo",
        "Wan Duet Video to Video",
        "video-to-video",
        "Describes how to change a video, and how strongly.",
        "wan 2.2 v2v, wan video to video, vid2vid, restyle video",
        """prompt negative_prompt strength num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale guidance_scale_2 shift acceleration interpolator_model
        num_interpolated_frames adjust_fps_for_interpolation video_quality video_write_mode resample_fps
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion video_url""",
    ),
    _node(
        "WanDuetTurboTextToVideo",
        "Wan Duet Turbo Text to Video",
        "turbo-text-to-video",
        "Describes a video to generate from a prompt in four steps.",
        "wan turbo t2v, wan lightning, fast text to video",
        """prompt seed resolution aspect_ratio acceleration video_quality video_write_mode
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion""",
    ),
    _node(
        "WanDuetTurboImageToVideo",
        "Wan Duet Turbo Image to Video",
        "turbo-image-to-video",
        "Describes a video to generate from an image in four steps.",
        "wan turbo i2v, wan lightning, fast image to video, last frame",
        """prompt seed resolution aspect_ratio acceleration video_quality video_write_mode
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion image_url
        end_image_url""",
    ),
    _node(
        "WanDuetSpeechToVideo",
        "Wan Duet Speech to Video",
        "speech-to-video",
        "Describes a video of the person in an image speaking or singing the given audio.",
        "wan 2.2 s2v, lip sync, talking head, audio to video",
        """prompt negative_prompt num_frames frames_per_second seed resolution num_inference_steps
        guidance_scale shift video_quality video_write_mode enable_safety_checker
        enable_output_safety_checker image_url audio_url""",
    ),
    _node(
        "WanDuetSmallTextToVideo",
        "Wan Duet Small Text to Video",
        "small-text-to-video",
        "Describes a video to generate from a prompt with the 5B model.",
        "wan 2.2 5b, wan ti2v, small text to video",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale shift interpolator_model num_interpolated_frames
        adjust_fps_for_interpolation video_quality video_write_mode enable_safety_checker
        enable_output_safety_checker enable_prompt_expansion""",
    ),
    _node(
        "WanDuetSmallImageToVideo",
        "Wan Duet Small Image to Video",
        "small-image-to-video",
        "Describes a video to generate from its first frame with the 5B model.",
        "wan 2.2 5b, wan ti2v, small image to video",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale shift interpolator_model num_interpolated_frames
        adjust_fps_for_interpolation video_quality video_write_mode enable_safety_checker
        enable_output_safety_checker enable_prompt_expansion image_url""",
    ),
    _node(
        "WanDuetSmallTextToImage",
        "Wan Duet Small Text to Image",
        "small-text-to-image",
        "Describes an image to generate from a prompt with the 5B model.",
        "wan 2.2 5b, wan ti2v, small text to image",
        """prompt negative_prompt image_size seed num_inference_steps guidance_scale shift image_format
        enable_safety_checker enable_output_safety_checker enable_prompt_expansion""",
    ),
    _node(
        "WanDuetSmallDistill",
        "Wan Duet Small Distill",
        "small-distill",
        "Describes a video to generate with the distilled 5B model, which needs no guidance.",
        "wan 2.2 5b distill, wan ti2v, fast text to video",
        """prompt num_frames frames_per_second seed resolution aspect_ratio num_inference_steps
        guidance_scale shift interpolator_model num_interpolated_frames adjust_fps_for_interpolation
        video_quality video_write_mode enable_safety_checker enable_output_safety_checker
        enable_prompt_expansion""",
    ),
    _node(
        "WanDuetSmallFastVideo",
        "Wan Duet Small FastVideo",
        "small-fast-video",
        "Describes a video to generate in three steps with FastVideo's 5B model.",
        "fastwan, wan 2.2 5b fast, fast text to video",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio guidance_scale
        interpolator_model num_interpolated_frames adjust_fps_for_interpolation video_quality
        video_write_mode enable_safety_checker enable_output_safety_checker enable_prompt_expansion""",
    ),
    _node(
        "WanDuetLegacyTextToVideo",
        "Wan Duet Legacy Text to Video",
        "legacy-text-to-video",
        "Describes a video to generate with fal's first Wan 2.2 endpoint.",
        "fal-ai/wan-22, wan 2.2 t2v legacy",
        """prompt negative_prompt num_frames frames_per_second seed resolution aspect_ratio
        num_inference_steps guidance_scale guidance_scale_2 shift enable_safety_checker
        enable_prompt_expansion reverse_video""",
    ),
    _node(
        "WanDuetWan21TextToVideo",
        "Wan Duet Wan 2.1 Text to Video",
        "wan21-text-to-video",
        "Describes a video to generate with Wan 2.1 at Novita.",
        "novita, wan 2.1 t2v, wan2.1-t2v",
        "prompt negative_prompt width height seed steps guidance_scale flow_shift model_name extra",
    ),
    *REMOTE_NODES,
)
