"""What every field means, in a sentence or two: tooltips, JSON Schema, command line help and documents.

One table instead of text on each field, so that a kind can restate a default without repeating the words.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DESCRIPTIONS"]

DESCRIPTIONS: Mapping[str, str] = {
    "prompt": "What the video should show, in any language.",
    "negative_prompt": "What the video should not show. Has no effect in a stage whose guidance scale is 1.",
    "num_frames": "How many frames the video has before interpolation. Exactly that many are delivered.",
    "frames_per_second": "Frames per second before interpolation; num_frames divided by it is the duration.",
    "seed": "Where the noise starts, 0 to 18446744073709551615: the same seed and request give the "
    "same video. Unset draws one and reports it.",
    "resolution": "Size tier of the video. Larger is sharper and takes much longer.",
    "aspect_ratio": "Shape of the video, width to height.",
    "num_inference_steps": "Denoising steps over both experts together. More is finer and slower.",
    "enable_safety_checker": "Check the prompt and the inputs for unsafe content before the run.",
    "enable_output_safety_checker": "Check the finished result for unsafe content.",
    "enable_prompt_expansion": "Let a language model add detail to the prompt; the result names it.",
    "acceleration": "Trade quality for speed by reusing work between steps; none is exact.",
    "guidance_scale": "How strictly the high expert (early steps) follows the prompt. 1 switches "
    "guidance off, which halves the work of that stage.",
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
}
