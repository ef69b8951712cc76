"""The node that makes a model of ComfyUI's MODEL, CLIP, VAE and CLIP_VISION."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.plan.families import FAMILIES
from .comfy_interface import io
from .findings import notes_of_model
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.plan.families import Family
    from ..pipelines.vae.standalone import StandaloneVae


_AUTO = "auto"
# What a MODEL can be; the embedded ones come with their own loader, and speech needs ComfyUI's own nodes.
_FAMILIES = [name for name, family in FAMILIES.items() if not family.needs_audio and not family.own_sizes]


class WanDuetFromComfy(io.ComfyNode):
    """MODEL, CLIP, VAE, CLIP_VISION -> WAN_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetFromComfy",
            display_name="Wan Duet Model from ComfyUI",
            category="Wan Duet/blocks",
            description="Makes a model for the nodes of this pack from any ComfyUI MODEL, with everything "
            "that is patched onto it: LoRAs, caches, attention, guidance, context windows. ComfyUI keeps "
            "the weights and runs the networks.",
            search_aliases=["model to wan", "unet to wan duet", "gguf", "nunchaku", "bridge"],
            inputs=[
                io.Model.Input("high", tooltip="The high-noise expert, or the only one."),
                io.Model.Input("low", optional=True, tooltip="The low-noise expert of a Wan 2.2 A14B."),
                io.Clip.Input(
                    "clip", optional=True, tooltip="UMT5 from Load CLIP, type wan. Encodes prompts."
                ),
                io.Vae.Input("vae", optional=True, tooltip="A Wan VAE. Encodes inputs and decodes results."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Wan 2.1 image to video only: encodes the images.",
                ),
                io.Combo.Input(
                    "family",
                    options=[_AUTO, *_FAMILIES],
                    default=_AUTO,
                    optional=True,
                    tooltip="auto: as the MODELs show. Two are Wan 2.2 A14B; a single one counts as Wan 2.1, "
                    "because its weights look the same.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="The model, for every node with this input.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        high: Any,
        low: Any | None = None,
        clip: Any | None = None,
        vae: Any | None = None,
        clip_vision: Any | None = None,
        family: str = _AUTO,
    ) -> io.NodeOutput:
        from ..pipelines.loading.host_family import family_of_host
        from ..pipelines.loading.host_model import HostModel
        from .host_model.facts import facts_of
        from .host_model.networks import ComfyNetworks
        from .host_model.patches import without_effect

        experts = {"high": high} if low is None else {"high": high, "low": low}
        facts = {name: facts_of(model, name) for name, model in experts.items()}
        found, notes = family_of_host(facts, family)
        notes += dict.fromkeys(note for model in experts.values() for note in without_effect(model))
        known = None if vae is None else _wan_vae(vae, found.latent_channels)
        whole = "" if vae is None or known is not None else _video_vae(vae, found)
        if whole:
            notes.append(
                f"vae: {whole} is no Wan VAE, so ComfyUI decodes the whole clip in one go, and memory grows "
                "with its length"
            )
        model = HostModel(
            name=facts["high"].config,
            family=found,
            boundary=found.boundary,
            networks=ComfyNetworks(experts, clip, clip_vision, vae),
            vae_recipe=None if known is None else known.vae,
            precision="auto" if known is None else known.precision,
            whole_vae=whole,
            facts=facts,
            notes=tuple(notes),
        )
        return io.NodeOutput(model, ui=notes_of_model(cls.hidden.unique_id, model))


def _wan_vae(vae: Any, channels: int) -> StandaloneVae | None:
    """None for a VAE of another kind. Raises ModelError for the Wan VAE of another model."""
    from ..pipelines.errors import ModelError
    from .core_vae import chosen_vae

    vae.throw_exception_if_invalid()
    try:
        found = chosen_vae(None, vae)
    except ModelError:
        return None
    if found.vae.config["z_dim"] != channels:
        raise ModelError(
            f"vae: has {found.vae.config['z_dim']} latent channels, but this MODEL needs {channels}; connect "
            "the VAE of this model"
        )
    return found


def _video_vae(vae: Any, family: Family) -> str:
    """The class of a VAE that only ComfyUI can run. Raises ModelError for latents of another model."""
    from ..pipelines.errors import ModelError

    name = type(vae.first_stage_model).__name__
    found = vae.latent_dim, vae.latent_channels, vae.spacial_compression_decode()
    wanted = 3, family.latent_channels, family.vae_stride[1]
    if found != wanted:
        raise ModelError(
            "vae: {} has {}-dimensional latents of {} channels and 1/{} of the size, but this MODEL needs "
            "{} dimensions, {} channels and 1/{}; connect the VAE of this model".format(name, *found, *wanted)
        )
    return name
