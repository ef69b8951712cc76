"""Chooses between the VAE of a model of this pack and a VAE of ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.errors import RequestError

if TYPE_CHECKING:
    from ..pipelines.vae.standalone import HasVae

__all__ = ["chosen_vae"]


def chosen_vae(model: HasVae | None, vae: Any | None) -> HasVae:
    """Return the VAE that is connected.

    Raises RequestError unless exactly one of the two is, ModelError for a VAE of another model.
    """
    if (model is None) == (vae is None):
        found = "nothing is connected" if model is None else "both are connected"
        raise RequestError.of("model, vae", found, "connect one of them")
    if model is not None:
        return model
    from ..pipelines.vae.standalone import vae_of_tensors

    vae.throw_exception_if_invalid()
    return vae_of_tensors(vae.first_stage_model.state_dict(), vae.vae_dtype)
