"""Which workflows are written by `tools/templates.py`: what each asks for, and the note it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wan_duet.pipelines.model_files.catalogue import FileSet, read_catalogue

__all__ = ["TEMPLATES", "Template"]


@dataclass(frozen=True)
class Template:
    """node: the request node. kind, size: whose files; without a size the embedded model `model` is used.

    values: of the request. media: {socket of the request: title of the core node that fills it}.
    image_model: a second embedded model, for shots that begin with an image.
    app: whether it opens in app mode. of_comfyui: its files are loaded by ComfyUI's own nodes.
    """

    name: str
    node: str
    note: str
    kind: str
    size: str | None = None
    model: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)
    app: bool = False
    of_comfyui: bool = False
    image_model: str = ""

    @property
    def files(self) -> FileSet | None:
        return None if self.size is None else read_catalogue().choose(self.kind, self.size)


_DISK = "**Load Model** names the files. Those that are missing are listed when the workflow opens."
_GET = "Press **Get files** on *Load Model*: it downloads them into ComfyUI's folders, after asking you."
_RUN = "Press **Run**. *Check* says what this machine does with the request, before anything is loaded."
_PLAIN = {"resolution": "480p", "interpolator_model": "none", "num_interpolated_frames": 0, "seed": 7}
_KITE = "A red kite climbs above a grey sea at dusk, the camera pans slowly after it, soft cinematic light"
_TURN = "The figure turns its head towards the camera and smiles, gentle wind, soft light"


def _note(*more: str, first: str = _DISK) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate((first, _GET, *more, _RUN), 1))


TEMPLATES = (
    Template(
        "Wan 2.2 A14B Text to Video",
        "WanDuetTextToVideo",
        _note("Two experts of 14 GB in fp8. What does not fit into VRAM is streamed block by block."),
        "text-to-video",
        "fp8",
        values={**_PLAIN, "prompt": _KITE},
    ),
    Template(
        "Wan 2.2 A14B Image to Video",
        "WanDuetImageToVideo",
        _note("Choose your picture in **Load Image**; the video has its shape."),
        "image-to-video",
        "fp8",
        values={**_PLAIN, "prompt": _TURN},
        media={"image": "Load Image"},
    ),
    Template(
        "Wan 2.2 A14B Text to Video, 4 steps",
        "WanDuetTurboTextToVideo",
        _note("The Lightning LoRAs on **LoRA** make four steps without guidance enough."),
        "text-to-video-turbo",
        "fp8",
        values={"resolution": "480p", "seed": 7, "prompt": _KITE},
    ),
    Template(
        "Wan 2.2 A14B Image to Video, 4 steps",
        "WanDuetTurboImageToVideo",
        _note(
            "Choose your picture in **Load Image**. The Lightning LoRAs on **LoRA** make four steps enough."
        ),
        "image-to-video-turbo",
        "fp8",
        values={"resolution": "480p", "seed": 7, "prompt": _TURN},
        media={"image": "Load Image"},
    ),
    Template(
        "Wan 2.2 A14B Text to Video, GGUF",
        "WanDuetTextToVideo",
        _note(
            "GGUF files of 4 bits: two thirds of the size of fp8.",
            first="**Load Model** names the files. ComfyUI's own dialog cannot download .gguf files.",
        ),
        "text-to-video",
        "gguf",
        values={**_PLAIN, "prompt": _KITE},
    ),
    Template(
        "Wan 2.2 5B Text to Video",
        "WanDuetSmallTextToVideo",
        _note("One expert of 10 GB in fp16, made for 1280x704 at 24 frames per second."),
        "small-text-to-video",
        "fp16",
        values={"interpolator_model": "none", "num_interpolated_frames": 0, "seed": 7, "prompt": _KITE},
    ),
    Template(
        "Wan 2.2 A14B First and Last Frame",
        "WanDuetImageToVideo",
        _note("Choose the picture to begin with and the one to end with; they should have one shape."),
        "image-to-video",
        "fp8",
        values={**_PLAIN, "prompt": "The scene changes slowly from the first picture to the last one"},
        media={"image": "First picture", "end_image": "Last picture"},
    ),
    Template(
        "Wan 2.2 14B Speech to Video",
        "WanDuetSpeechToVideo",
        _note(
            "Choose the speaker in **Load Image**. Replace **Empty Audio**, which is silent, by *Load Audio* "
            "with your sound: the video is as long."
        ),
        "speech-to-video",
        "fp8",
        values={"seed": 7, "prompt": "A person speaks to the camera"},
        media={"image": "Load Image", "audio": "Empty Audio"},
    ),
    Template(
        "Any ComfyUI model, our request",
        "WanDuetTextToVideo",
        "1. ComfyUI's own loaders load the model here. Files that are missing are listed when the workflow "
        "opens.\n"
        "2. Put any node that changes a MODEL (LoRA, cache, attention, context windows, GGUF) before "
        "**Model from ComfyUI**: it acts on our request as on ComfyUI's samplers.\n"
        f"3. {_RUN}",
        "text-to-video",
        "fp8",
        values={**_PLAIN, "prompt": _KITE},
        of_comfyui=True,
    ),
    Template(
        "Several shots",
        "WanDuetShots",
        "1. The storyboard is one video of three shots. Before each colon stand its length and how it joins "
        "the shot before: *cut*, *continue* (from the last frame), *overlap N* or *dissolve N*.\n"
        "2. Shots from text use *toy*, shots that continue *toy-image*. For real videos load Wan 2.2 text to "
        "video and image to video, or the 5B for both.\n"
        "3. **Shot** nodes behind *Shots* add shots with pictures, LoRAs and seeds of their own.\n"
        "4. Press **Run**. *Check* shows the shots as a line before anything is loaded.",
        "shots",
        model="toy",
        image_model="toy-image",
        values={
            **_PLAIN,
            "resolution": "provider default",
            "aspect_ratio": "1:1",
            "storyboard": "33f: a red ball moving left on a white background\n"
            "33f continue: a red ball moving up on a white background\n"
            "33f dissolve 6: a blue ball moving right on a white background",
        },
    ),
    Template(
        "Image to Video (app)",
        "WanDuetImageToVideo",
        "1. This workflow opens as an app: change prompt, picture and seed, and press **Run**.\n"
        "2. The model *toy-image* comes with the pack and draws one coloured object, 64 pixels wide. For "
        "real videos open *Wan 2.2 A14B Image to Video*.\n"
        "3. Leave the app in the menu at the top to see this graph.",
        "image-to-video",
        model="toy-image",
        values={**_PLAIN, "prompt": "a green ball moving to the right on a white background"},
        media={"image": "Load Image"},
        app=True,
    ),
)
