"""Defines the nodes that decode latents to images or a video file, and encode images to a video file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..pipelines.video.containers import CONTAINERS
from ..pipelines.video.cuts import SCENE_THRESHOLD
from ..pipelines.video.video_format import AUTO, FormatWish
from .comfy_interface import io
from .core_vae import chosen_vae
from .files import new_video_file, workflow_tags
from .findings import NodeFindings, with_findings
from .finished_files import note_file, times_lost
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import field_inputs, filename_input, rate, rate_input, save_input
from .interpolators import chosen_interpolator, interp_model_input, interpolator_name
from .latents import from_latent, noise_level
from .media import audio_of
from .output_inputs import (
    alpha_input,
    background_input,
    codec_input,
    container_input,
    hdr_input,
    odd_input,
    scene_threshold_input,
)
from .picture_sequence import SEQUENCES, new_pictures
from .sockets import WanModelSocket
from .video_file import file_of, is_video

if TYPE_CHECKING:
    from fractions import Fraction

    from torch import Tensor

    from ..pipelines.loading.host_model import AnyModel
    from ..pipelines.vae.tiles import Tiling
    from ..pipelines.video.frame_stream import FrameStream
    from ..pipelines.video.sound import Sound


class WanDuetDecode(io.ComfyNode):
    """Decodes a LATENT to IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetDecode",
            display_name="Wan Duet Decode",
            category="Wan Duet/blocks",
            description="Turns a latent video into images, one latent frame after another.",
            search_aliases=["vae decode wan", "latent to image"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose VAE decodes the latent."),
                io.Latent.Input("latent", tooltip="The latent to decode."),
            ],
            outputs=[io.Image.Output("images", tooltip="The frames.")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model: AnyModel, latent: Any) -> io.NodeOutput:
        import torch

        from ..pipelines.generate.frame_stages import decode
        from ..pipelines.generate.memory_estimate import frame_size
        from ..pipelines.generate.render import with_tile_fallback
        from ..pipelines.sampling.chained import left_in_decoded
        from ..pipelines.video.frames import to_image

        findings = NodeFindings(cls.hidden.unique_id)
        findings.tell(left_in_decoded(noise_level(latent)))
        latents, memory, progress = from_latent(latent), HostMemory(), NodeProgress(cls.hidden.unique_id)
        count = (latents.shape[2] - 1) * model.family.vae_stride[0] + 1
        width, height = frame_size(model, latents.shape)

        def attempt(tiling: Tiling | None) -> Tensor:
            progress.begin("decoding", count, "frames")
            images = torch.empty(count, height, width, 3)
            with closing(decode(model, latents, memory, progress, tiling=tiling)) as frames:
                for index, frame in enumerate(frames):
                    progress.check()
                    images[index] = to_image(frame)
                    progress.advance(index + 1)
            return images

        images = with_tile_fallback(attempt, model, latents.shape, memory)
        return io.NodeOutput(images, ui=with_findings(None, findings.found))


class WanDuetRenderVideo(io.ComfyNode):
    """Decodes a LATENT to a VIDEO file, one frame at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRenderVideo",
            display_name="Wan Duet Render Video",
            category="Wan Duet/blocks",
            description="Decodes a latent straight into a video file, frame by frame, so long clips need no "
            "more memory than short ones. If it fails, the latent is saved and the error names the file.",
            search_aliases=["decode to video", "vae decode video", "create video", "video combine"],
            inputs=[
                io.Latent.Input("latent", tooltip="The latent of the video."),
                WanModelSocket.Input(
                    "model", optional=True, tooltip="The model whose VAE decodes. Connect this or vae."
                ),
                io.Vae.Input("vae", optional=True, tooltip="A Wan VAE from Load VAE. Connect this or model."),
                rate_input(),
                io.Boolean.Input(
                    "reverse", default=False, tooltip="Play the frames backwards; the sound is not reversed."
                ),
                io.Combo.Input(
                    "interpolator",
                    options=["none", "flow", "film", "rife"],
                    default="none",
                    tooltip="Interpolates frames between the decoded ones. film and rife need a file in "
                    "models/frame_interpolation; flow (optical flow) needs none.",
                ),
                *field_inputs("text-to-video", ("num_interpolated_frames", "adjust_fps_for_interpolation")),
                *field_inputs("text-to-video", ("video_quality", "video_write_mode")),
                container_input(),
                _audio_input(),
                filename_input(),
                save_input("Wan Duet Save Rendered Video"),
                interp_model_input(),
                codec_input(),
                scene_threshold_input(),
            ],
            outputs=[io.Video.Output("video", tooltip="The video file.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls,
        latent: Any,
        frames_per_second: float,
        reverse: bool,
        interpolator: str,
        num_interpolated_frames: int,
        adjust_fps_for_interpolation: bool,
        video_quality: str,
        video_write_mode: str,
        filename_prefix: str,
        save: bool,
        model: AnyModel | None = None,
        vae: Any | None = None,
        container: str = "mp4",
        audio: Any | None = None,
        interp_model: Any | None = None,
        codec: str = AUTO,
        scene_threshold: float = SCENE_THRESHOLD,
    ) -> io.NodeOutput:
        from ..pipelines.generate.memory_estimate import frame_size
        from ..pipelines.generate.render import render
        from ..pipelines.sampling.chained import left_in_decoded
        from ..pipelines.video.edit import Edit

        findings = NodeFindings(cls.hidden.unique_id)
        findings.tell(left_in_decoded(noise_level(latent)))
        latents, source, memory = from_latent(latent), chosen_vae(model, vae), HostMemory()
        edit = Edit(
            rate(frames_per_second),
            reverse,
            interpolator_name(interpolator, interp_model),
            num_interpolated_frames,
            adjust_fps_for_interpolation,
            video_quality,
            video_write_mode,
            scene_threshold,
        )
        size = frame_size(source, latents.shape)
        file = new_video_file(filename_prefix, save, *size, container)
        render(
            source,
            latents,
            file.path,
            edit,
            memory,
            NodeProgress(cls.hidden.unique_id),
            interpolator=chosen_interpolator(edit, interp_model, memory, *size),
            tags=lambda _: workflow_tags(cls.hidden),
            audio=audio_of(audio),
            wish=FormatWish(codec),
        )
        note_file(cls.hidden.unique_id, file.path)
        return io.NodeOutput(file.output(), ui=with_findings(file.preview(), findings.found))


class WanDuetEncodeVideo(io.ComfyNode):
    """Encodes IMAGE or VIDEO to a VIDEO file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetEncodeVideo",
            display_name="Wan Duet Encode Video",
            category="Wan Duet/blocks",
            description="Encodes images, or re-encodes a video, to a video file, or to a folder of numbered "
            "pictures.",
            search_aliases=[
                "create video",
                "video combine",
                "mp4",
                "re-encode",
                "convert video",
                "image sequence",
                "exr",
            ],
            inputs=[
                io.MultiType.Input(
                    "images",
                    types=[io.Image, io.Video],
                    tooltip="The frames of the video, or a video to re-encode. A video keeps its frame "
                    "rate, and its sound unless audio is connected.",
                ),
                rate_input(
                    "Frame rate for images; Wan 2.2 A14B was trained at 16. A video keeps its own rate."
                ),
                *field_inputs("text-to-video", ("video_quality", "video_write_mode")),
                filename_input(),
                save_input("Wan Duet Save Encoded Video"),
                container_input(*SEQUENCES),
                _audio_input(),
                codec_input(),
                alpha_input(),
                background_input(),
                odd_input(),
                hdr_input(),
            ],
            outputs=[io.Video.Output("video", tooltip="The video file.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls,
        images: Any,
        frames_per_second: float,
        video_quality: str,
        video_write_mode: str,
        filename_prefix: str,
        save: bool,
        container: str = "mp4",
        audio: Any | None = None,
        codec: str = AUTO,
        alpha: str = "flatten",
        background: str = "white",
        odd: str = "pad",
        hdr: str = "tone-map",
    ) -> io.NodeOutput:
        from ..pipelines.video.edit import Edit, write_edited
        from ..pipelines.video.frame_pixels import background_of
        from ..pipelines.video.frames import image_frames
        from ..pipelines.video.kept_hdr import hdr_tags
        from ..pipelines.video.source_clip import SourceWish, open_clip

        findings = NodeFindings(cls.hidden.unique_id)
        findings.tell([])  # removes those of the last run
        wish = FormatWish(codec, alpha == "keep")
        behind = None if wish.alpha else background_of(background)

        def written(
            frames: FrameStream, count: int, size: tuple[int, int], fps: Fraction, sound: Sound | None
        ) -> io.NodeOutput:
            new_file = new_pictures if container in SEQUENCES else new_video_file
            file = new_file(filename_prefix, save, *size, container)
            write_edited(
                frames,
                file.path,
                Edit(fps, quality=video_quality, write_mode=video_write_mode),
                count=count,
                width=size[0],
                height=size[1],
                tags=workflow_tags(cls.hidden),
                audio=sound,
                progress=NodeProgress(cls.hidden.unique_id),
                odd=odd,
                wish=wish,
            )
            note_file(cls.hidden.unique_id, file.kept)
            return io.NodeOutput(file.output(), ui=with_findings(file.preview(), findings.found))

        sound = audio_of(audio)
        if not is_video(images):
            if hdr == "keep":
                findings.notes_on("images", "images")("images are SDR: there is no HDR to keep")
            count, height, width = images.shape[:3]
            return written(
                image_frames(images, behind), count, (width, height), rate(frames_per_second), sound
            )
        with file_of(images) as source:
            tell = findings.notes_on("images", source.name)
            if hdr == "keep":
                wish = replace(wish, hdr=hdr_tags(source, source.name))
                if wish.hdr is None:
                    tell("it is SDR: there is no HDR to keep")
            kept = wish.hdr is not None
            heard = sound is None and bool(CONTAINERS[container].sound)
            clip = open_clip(source, SourceWish(background=behind, with_sound=heard, keep_hdr=kept), tell)
            if sound is None and not heard and clip.facts.audio is not None:
                tell(f"the sound is left out: {container} cannot contain sound")
            size = (clip.facts.width, clip.facts.height)
            return written(clip.frames(), clip.count, size, clip.fps, sound or clip.sound)


def _audio_input() -> io.Input:
    return io.Audio.Input(
        "audio",
        optional=True,
        tooltip="The sound of the video, cut to its length and never stretched.",
    )
