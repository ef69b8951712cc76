"""Lists the request nodes of kinds that run at a provider alone. `tasks` says what the order means."""

from __future__ import annotations

from .task_row import RequestNode
from .task_row import request_node_row as _node

__all__ = ["REMOTE_NODES"]

_ANIMATE = """seed resolution num_inference_steps guidance_scale shift use_turbo enable_safety_checker
    enable_output_safety_checker video_quality video_write_mode return_frames_zip video_url image_url"""

_VACE = """prompt negative_prompt match_input_num_frames num_frames match_input_frames_per_second
    frames_per_second seed resolution aspect_ratio num_inference_steps guidance_scale sampler shift
    enable_safety_checker enable_prompt_expansion acceleration video_quality video_write_mode
    num_interpolated_frames temporal_downsample_factor enable_auto_downsample auto_downsample_min_fps
    interpolator_model transparency_mode return_frames_zip"""

REMOTE_NODES: tuple[RequestNode, ...] = (
    _node(
        "WanDuetAnimateMove",
        "Wan Duet Animate Move",
        "animate-move",
        "Describes a video in which the person of an image moves as that of a video. Runs only at fal.",
        "wan animate, wan 2.2 animate, motion transfer, character animation, pose transfer",
        _ANIMATE,
    ),
    _node(
        "WanDuetAnimateReplace",
        "Wan Duet Animate Replace",
        "animate-replace",
        "Describes a video whose person is replaced by the one of an image. Runs only at fal.",
        "wan animate, wan 2.2 animate, character replacement, swap character",
        _ANIMATE,
    ),
    _node(
        "WanDuetVaceDepth",
        "Wan Duet VACE Depth",
        "vace-depth",
        "Describes a video whose depth follows that of another video. Runs only at fal.",
        "wan vace, depth control, controlnet video, depth to video",
        _VACE + " preprocess video_url ref_image_urls first_frame_url last_frame_url",
    ),
    _node(
        "WanDuetVacePose",
        "Wan Duet VACE Pose",
        "vace-pose",
        "Describes a video whose people move as those of another video. Runs only at fal.",
        "wan vace, pose control, controlnet video, pose to video",
        _VACE + " preprocess video_url ref_image_urls first_frame_url last_frame_url",
    ),
    _node(
        "WanDuetVaceInpainting",
        "Wan Duet VACE Inpainting",
        "vace-inpainting",
        "Redraws the part of a video that a mask shows. Runs only at fal.",
        "wan vace, video inpainting, mask video, remove object",
        _VACE
        + " preprocess video_url mask_video_url mask_image_url ref_image_urls first_frame_url last_frame_url",
    ),
    _node(
        "WanDuetVaceOutpainting",
        "Wan Duet VACE Outpainting",
        "vace-outpainting",
        "Adds to a video what lies beyond its edges. Runs only at fal.",
        "wan vace, video outpainting, expand video, uncrop",
        _VACE
        + """ expand_left expand_right expand_top expand_bottom expand_ratio video_url ref_image_urls
        first_frame_url last_frame_url""",
    ),
    _node(
        "WanDuetVaceReframe",
        "Wan Duet VACE Reframe",
        "vace-reframe",
        "Gives a video another shape, and draws what was outside of it. Runs only at fal.",
        "wan vace, reframe video, aspect ratio, vertical video",
        _VACE + " zoom_factor trim_borders video_url first_frame_url last_frame_url",
    ),
    _node(
        "WanDuetWan25TextToVideo",
        "Wan Duet Wan 2.5 Text to Video",
        "wan25-text-to-video",
        "Describes a video of five or ten seconds with sound from a prompt. Runs only at fal.",
        "wan 2.5, t2v, text to video, video with sound",
        """prompt negative_prompt aspect_ratio resolution duration enable_prompt_expansion seed
        enable_safety_checker audio_url""",
    ),
    _node(
        "WanDuetWan25ImageToVideo",
        "Wan Duet Wan 2.5 Image to Video",
        "wan25-image-to-video",
        "Describes a video of five or ten seconds with sound from its first frame. Runs only at fal.",
        "wan 2.5, i2v, image to video, video with sound",
        """prompt negative_prompt resolution duration enable_prompt_expansion seed enable_safety_checker
        image_url audio_url""",
    ),
    _node(
        "WanDuetWan26TextToVideo",
        "Wan Duet Wan 2.6 Text to Video",
        "wan26-text-to-video",
        "Describes a video with sound, of one or several shots, from a prompt. Runs only at fal.",
        "wan 2.6, t2v, text to video, video with sound",
        """prompt negative_prompt aspect_ratio resolution duration enable_prompt_expansion multi_shots seed
        enable_safety_checker audio_url""",
    ),
    _node(
        "WanDuetWan26ImageToVideo",
        "Wan Duet Wan 2.6 Image to Video",
        "wan26-image-to-video",
        "Describes a video with sound, of one or several shots, from its first frame. Runs only at fal.",
        "wan 2.6, i2v, image to video, video with sound",
        """prompt negative_prompt resolution duration enable_prompt_expansion multi_shots seed
        enable_safety_checker image_url audio_url""",
    ),
    _node(
        "WanDuetWan26ReferenceToVideo",
        "Wan Duet Wan 2.6 Reference to Video",
        "wan26-reference-to-video",
        "Describes a video with sound that shows the subjects of one to three videos. Runs only at fal.",
        "wan 2.6, r2v, reference to video, character consistency, subject",
        """prompt negative_prompt aspect_ratio resolution duration enable_prompt_expansion multi_shots seed
        enable_safety_checker video_urls""",
    ),
    _node(
        "WanDuetWan27TextToVideo",
        "Wan Duet Wan 2.7 Text to Video",
        "wan27-text-to-video",
        "Describes a video of 2 to 15 seconds with sound from a prompt. Runs only at fal.",
        "wan 2.7, t2v, text to video, video with sound",
        """prompt negative_prompt aspect_ratio resolution duration enable_prompt_expansion seed
        enable_safety_checker audio_url""",
    ),
    _node(
        "WanDuetWan27ImageToVideo",
        "Wan Duet Wan 2.7 Image to Video",
        "wan27-image-to-video",
        "Describes a video of 2 to 15 seconds with sound: from its first frame, from first and last, or as "
        "the continuation of a video. Runs only at fal.",
        "wan 2.7, i2v, image to video, video with sound",
        """prompt negative_prompt resolution duration enable_prompt_expansion seed enable_safety_checker
        image_url end_image_url video_url audio_url""",
    ),
    _node(
        "WanDuetWan27ReferenceToVideo",
        "Wan Duet Wan 2.7 Reference to Video",
        "wan27-reference-to-video",
        "Describes a video of 2 to 10 seconds with the subjects of images and videos. Runs only at fal.",
        "wan 2.7, r2v, reference to video, character consistency, subject",
        """prompt negative_prompt aspect_ratio resolution duration multi_shots seed enable_safety_checker
        reference_image_urls reference_video_urls""",
    ),
    _node(
        "WanDuetWan30TextToVideo",
        "Wan Duet Wan 3.0 Text to Video",
        "wan30-text-to-video",
        "Describes a video of 2 to 30 seconds, with sound or without, from a prompt. Runs only at fal.",
        "wan 3.0, t2v, text to video, video with sound",
        """prompt resolution aspect_ratio duration audio enable_prompt_expansion enable_thinking seed
        enable_safety_checker""",
    ),
    _node(
        "WanDuetWan30ImageToVideo",
        "Wan Duet Wan 3.0 Image to Video",
        "wan30-image-to-video",
        "Describes a video of 2 to 30 seconds, with sound or without, from its first and optionally its last "
        "frame. Runs only at fal.",
        "wan 3.0, i2v, image to video, video with sound",
        """prompt resolution aspect_ratio duration audio enable_prompt_expansion enable_thinking seed
        enable_safety_checker start_image_url end_image_url""",
    ),
    _node(
        "WanDuetWan30ReferenceToVideo",
        "Wan Duet Wan 3.0 Reference to Video",
        "wan30-reference-to-video",
        "Describes a video of 2 to 30 seconds with the subjects of images and videos, and with sounds. Runs "
        "only at fal.",
        "wan 3.0, r2v, reference to video, character consistency, subject",
        """prompt resolution aspect_ratio duration audio enable_prompt_expansion enable_thinking seed
        enable_safety_checker reference_image_urls reference_video_urls reference_audio_urls""",
    ),
)
