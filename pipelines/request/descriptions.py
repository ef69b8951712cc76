"""What every field means, in a sentence or two: tooltips, JSON Schema, command line help and documents.

One table instead of text on each field, so that a kind can restate a default without repeating the words.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DESCRIPTIONS"]

DESCRIPTIONS: Mapping[str, str] = {
    "prompt": "What to show, in any language.",
    "negative_prompt": "What not to show. Has no effect in a stage whose guidance scale is 1.",
    "num_frames": "How many frames the video has before interpolation. Exactly that many are delivered.",
    "frames_per_second": "Frames per second before interpolation; num_frames divided by it is the duration.",
    "seed": "Where the noise starts: the same seed and request give the same result. Unset, or -1 at Novita, "
    "draws one and reports it.",
    "resolution": "Size tier. Larger is sharper and takes much longer.",
    "aspect_ratio": "Shape of the picture, width to height. auto, where there is one, "
    "keeps that of the input.",
    "num_inference_steps": "Denoising steps, over both experts where there are two. More is finer and "
    "slower.",
    "enable_safety_checker": "Check the prompt and the inputs for unsafe content before the run.",
    "enable_output_safety_checker": "Check the finished result for unsafe content.",
    "enable_prompt_expansion": "Let a language model add detail to the prompt; the result names it.",
    "acceleration": "Trade quality for speed by reusing work between steps; none is exact.",
    "guidance_scale": "How strictly the prompt is followed; with two experts, by the high one (early steps). "
    "1 switches guidance off, which halves the work of that stage.",
    "guidance_scale_2": "How strictly the low expert (late steps) follows the prompt. 1 switches "
    "guidance off, which halves the work of that stage.",
    "shift": "Spends more steps at the noisy end, which decides motion and layout; 1 spreads them evenly.",
    "interpolator_model": "What draws the frames between the generated ones.",
    "num_interpolated_frames": "How many frames are drawn between each two generated ones; 0 draws none.",
    "adjust_fps_for_interpolation": "Multiply the frame rate along with the frames, so that the speed stays. "
    "Off gives slow motion.",
    "video_quality": "Quality of the video file. Better is larger.",
    "video_write_mode": "How much time the encoder spends on making the file small at the same quality.",
    "loras": "LoRAs to apply, each with its path, scale and expert.",
    "reverse_video": "Play the video backwards.",
    "path": "Where the LoRA is: a URL, a Hugging Face repository or a file on this machine.",
    "weight_name": "Which file of a Hugging Face repository; needed when it holds several.",
    "scale": "How strongly the LoRA acts. 1 is as trained, 0 is not at all, below 0 is reversed.",
    "transformer": "Which expert the LoRA changes: high (early, noisy steps), low (late steps) or both.",
    "image_url": "The image to start from: a URL, a data URI or a file.",
    "end_image_url": "The image to end with: a URL, a data URI or a file.",
    "video_url": "The video to start from: a URL, a data URI or a file.",
    "audio_url": "What is heard, and what the lips follow: a URL, a data URI or a file.",
    "strength": "How far the result may leave the input: 0 keeps it, 1 draws everything anew.",
    "resample_fps": "Bring the input to frames_per_second first. Off takes its frames as they are.",
    "image_size": "Size of the image: a name, or width and height in pixels.",
    "image_format": "File format of the image: png keeps every bit, jpeg is smaller.",
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "extra": "What Novita takes that is not about the video.",
    "model_name": "The model at Novita.",
    "steps": "Denoising steps. More is finer and slower.",
    "fast_mode": "Faster and cheaper at Novita, at some loss of quality.",
    "size": "Width and height in pixels, as Novita names them.",
    "duration": "Length in seconds.",
    "prompt_extend": "Let a language model add detail to the prompt.",
    "img_url": "The image to start from: a URL.",
    "flow_shift": "Spends more steps at the noisy end, which decides motion and layout; 1 spreads them "
    "evenly.",
    "webhook": "Where Novita reports the end of a task.",
    "url": "The address that is called.",
    "test_mode": "Answers without a run, to try the wiring.",
    "enabled": "Switches it on.",
    "return_task_status": "The status to answer with.",
}
