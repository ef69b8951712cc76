"""Which family two or one MODELs of ComfyUI are, from what ComfyUI knows of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.host_family import HostFacts, family_of_host

TEXT = HostFacts("WAN21_T2V", channels=16, inputs=16, width=5120)
IMAGE = HostFacts("WAN21_T2V", channels=16, inputs=36, width=5120)  # of Wan 2.2: it reads no CLIP
IMAGE_21 = HostFacts("WAN21_I2V", channels=16, inputs=36, width=5120, clip=True)
SMALL = HostFacts("WAN22_T2V", channels=48, inputs=48, width=3072)
VACE = HostFacts("WAN21_Vace", channels=16, inputs=16, width=5120)


@pytest.mark.parametrize(
    ("experts", "name", "boundary"),
    [
        ((TEXT, TEXT), "wan2.2-t2v-a14b", 0.875),
        ((IMAGE, IMAGE), "wan2.2-i2v-a14b", 0.9),
        ((IMAGE_21, IMAGE_21), "wan2.2-i2v-a14b", 0.9),
        ((TEXT,), "wan2.1-t2v-14b", None),
        ((replace(TEXT, width=1536),), "wan2.1-t2v-1.3b", None),
        ((IMAGE_21,), "wan2.1-i2v-14b", None),
        ((replace(IMAGE_21, ends=True),), "wan2.1-flf2v-14b", None),
        ((IMAGE,), "wan2.2-i2v-a14b", None),
        ((SMALL,), "wan2.2-ti2v-5b", None),
    ],
)
def test_channels_width_and_number_name_the_family(
    experts: tuple[HostFacts, ...], name: str, boundary: float | None
) -> None:
    family, _ = family_of_host(dict(zip(("high", "low"), experts, strict=False)))
    assert (family.name, family.boundary, family.experts) == (name, boundary, len(experts))


def test_a_single_model_says_what_it_was_taken_for() -> None:
    _, notes = family_of_host({"high": TEXT})
    assert notes == [
        "family: one MODEL, so it counts as wan2.1-t2v-14b; connect low, or set family to wan2.2-t2v-a14b, "
        "if it is an expert of Wan 2.2"
    ]


def test_family_overrides_what_a_single_model_counts_as() -> None:
    family, notes = family_of_host({"high": TEXT}, "wan2.2-t2v-a14b")
    assert (family.name, family.experts, family.boundary) == ("wan2.2-t2v-a14b", 1, None)
    assert family.default_shift == 12.0
    assert "a single expert of wan2.2-t2v-a14b runs every step" in notes[0]


@pytest.mark.parametrize(
    ("experts", "chosen", "words"),
    [
        ({"high": TEXT}, "wan2.2-ti2v-5b", "family: wan2.2-ti2v-5b has 48 latent and 48 input channels"),
        ({"high": TEXT, "low": TEXT}, "wan2.1-t2v-14b", "low is connected; disconnect low"),
        ({"high": TEXT, "low": IMAGE}, "auto", "low: is WAN21_T2V with 16 latent and 36 input channels"),
        ({"high": SMALL, "low": SMALL}, "auto", "low: wan2.2-ti2v-5b has a single expert"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    experts: dict[str, HostFacts], chosen: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        family_of_host(experts, chosen)


@pytest.mark.parametrize("name", ["wan2.2_t2v_low_noise_14B_fp8.safetensors", "Wan22-T2V-A14B-Low.gguf"])
def test_exchanged_experts_are_told_by_their_file_names(name: str) -> None:
    _, notes = family_of_host({"high": replace(TEXT, file=name), "low": TEXT})
    assert notes == [f"high: {name} says that it is the low-noise expert; connect it to low"]
    _, notes = family_of_host({"high": TEXT, "low": replace(TEXT, file=name)})
    assert notes == []


def test_a_model_that_no_request_describes_has_no_task_and_the_boundary_of_its_channels() -> None:
    alone, _ = family_of_host({"high": VACE})
    pair, _ = family_of_host({"high": VACE, "low": VACE})
    image, _ = family_of_host(dict.fromkeys(("high", "low"), replace(VACE, inputs=36)))
    assert [alone.boundary, pair.boundary, image.boundary] == [None, 0.875, 0.9]
    assert alone.name == "WAN21_Vace"
    assert not alone.tasks | pair.tasks
