"""Reads the headers of a request's LoRAs: are they here, for which expert are they, do they fit the model?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import LoraError, ModelError
from ..loading.host_model import AnyModel, HostModel
from ..plan.families import Family
from ..request.base import WanRequest
from ..request.distilled import distilled_findings
from ..request.local_settings import LocalSettings
from ..request.lora_weight import LegacyLoRAWeight, LoRAWeight, NovitaLoRA, place_of
from ..request.phases import experts_named, moving_loras
from ..request.report import Finding, Status
from ..weights.lora.attach import cover, refusal
from ..weights.lora.coverage import LoraReport, describe_lora
from ..weights.lora.find import LoraSources
from ..weights.lora.guess import Intended, guess_base, guess_expert, guess_expert_by_name, width_of
from ..weights.lora.lora_file import LoraFile, read_lora
from ..weights.recipe import Recipe
from .distilled_titles import distilled_title

__all__ = ["attached_remarks", "fit_findings", "lora_findings"]

AnyLoRA = LoRAWeight | LegacyLoRAWeight | NovitaLoRA
_OTHER = {"high": "low", "low": "high"}


@dataclass(frozen=True)
class _Opened:
    """A LoRA of a request.

    field:   its place in the request, such as `loras[0]`.
    file:    None for one that is not on this machine, or that cannot be read.
    problem: why a run cannot use it; empty if it can, or if that is not known yet.
    """

    field: str
    lora: AnyLoRA
    file: LoraFile | None
    problem: str = ""

    @property
    def read(self) -> LoraFile:
        if self.file is None:
            raise LoraError(f"{self.field}: {self.problem or 'not on this machine'}")
        return self.file


def lora_findings(request: WanRequest, sources: LoraSources, experts: int = 2) -> list[Finding]:
    """Return a finding for each LoRA that is missing, cannot be read, or was made for another expert.

    sources: those without downloads leave out LoRAs that are an address or a repository.
    experts: of the model, 1 or 2.
    """
    opened = _opened(request, sources, experts)
    found = [
        Finding(f"{one.field}.path", "impossible", one.lora.path, None, one.problem)
        for one in opened
        if one.problem
    ]
    for one in opened:
        if one.file is not None and one.file.alphas_missing:
            reason = (
                "its alpha is unknown without the adapter_config.json beside it, and is taken as the rank"
            )
            found.append(Finding(f"{one.field}.path", "warning", one.lora.path, one.lora.path, reason))
    found += _distilled_by_title(request, opened)
    others = () if experts == 1 else (*_on_other_expert(opened), *_on_other_stage(opened))
    return list(dict.fromkeys((*found, *others)))  # an entry for each stage names its file twice


def fit_findings(
    request: WanRequest,
    sources: LoraSources,
    model: AnyModel | None,
    family: Family,
    *,
    allow_partial: bool = False,
) -> list[Finding]:
    """Return a finding for each LoRA that does not fit the model, or of which something has no effect.

    model:         None compares the width of the LoRA with that of `family`.
    allow_partial: a LoRA of which only a part fits is a warning.
    """
    opened = [
        one for one in _opened(request, sources, family.experts) if one.file is not None and one.lora.scale
    ]
    try:
        layouts = _layouts(model) if opened and model is not None else {}
    except ModelError as error:  # a MODEL of ComfyUI that is no plain Wan transformer
        return [Finding("model", "impossible", family.name, None, str(error))]
    found: list[Finding] = []
    for one in opened:
        told = _fit(one, layouts, allow_partial) if layouts else _of_other_width(one, family)
        path = one.lora.path
        for status, reason in told.items():
            used = None if status == "impossible" else path
            found.append(Finding(f"{one.field}.path", status, path, used, reason))
    return list(dict.fromkeys(found))


def attached_remarks(reports: Sequence[LoraReport]) -> Iterator[str]:
    """Yield what to say of LoRAs that are attached to a model already."""
    for report in reports:
        if report.of_other_expert and report.strength:
            yield (
                f"{report.file.name} is on the {report.expert}-noise expert, but seems to be made for the "
                f"{report.facts.intended.expert}-noise one ({report.facts.intended.evidence} says so)"
            )


def _opened(request: WanRequest, sources: LoraSources, experts: int) -> list[_Opened]:
    loras: Sequence[AnyLoRA] = getattr(request, "loras", None) or ()
    local: LocalSettings | None = request.local
    staged = () if local is None else local.loras_per_stage
    phases = () if local is None else local.phases
    named = experts_named(phases, experts)
    entries = [
        *((f"loras[{index}]", lora) for index, lora in enumerate(loras)),
        *(
            (f"local.loras_per_stage[{index}]", weight)
            for index, stage in enumerate(staged)
            for weight in stage.weights()
        ),
        *(
            (f"local.{moving.field}", weight)
            for moving in moving_loras(phases, ())
            for weight in moving.weights(named[moving.phase or 0])
        ),
    ]
    return [_open(field, lora, sources) for field, lora in entries]


def _open(field: str, lora: AnyLoRA, sources: LoraSources) -> _Opened:
    if sources.downloads is None and place_of(lora.path) in ("address", "repository"):
        return _Opened(field, lora, None)
    try:
        return _Opened(field, lora, read_lora(sources.find(lora.path, lora.weight_name)))
    except LoraError as error:
        return _Opened(field, lora, None, str(error).removeprefix("loras: "))


def _distilled_by_title(request: WanRequest, opened: Sequence[_Opened]) -> Iterator[Finding]:
    """Yield what does not suit LoRAs that only their headers or contents call distilled.

    The check knows file names.
    """
    values = {**request.model_dump(mode="json"), "loras": ()}
    for one in opened:
        if one.file is None or not one.lora.scale:
            continue
        if title := distilled_title(one.file.file, one.file.metadata):
            yield from distilled_findings(values, [title])


def _on_other_expert(opened: Sequence[_Opened]) -> Iterator[Finding]:
    """Yield a warning for each LoRA that says it was made for another expert than it is used on."""
    made_for = {one.field: guess for one, guess in _guesses(opened) if not _is_staged(one)}
    used = {one.field: one.lora.transformer for one in opened if one.field in made_for}
    for field, guess in made_for.items():
        if used[field] == guess.expert:
            continue
        partner = next(
            (
                other
                for other, theirs in made_for.items()
                if used[other] == guess.expert and theirs.expert == used[field]
            ),
            None,
        )
        remedy = f"give {guess.expert}" if partner is None else f"exchange it with {partner}"
        yield Finding(
            f"{field}.transformer", "warning", used[field], used[field], f"{_made_for(guess)}: {remedy}"
        )


def _on_other_stage(opened: Sequence[_Opened]) -> Iterator[Finding]:
    """As `_on_other_expert`, for the LoRAs of `local`, which have a strength for each expert."""
    for one, guess in _guesses(opened):
        if not _is_staged(one) or one.lora.transformer == guess.expert:
            continue
        if one.field.startswith("local.phases"):
            reason = f"{_made_for(guess)}: move it to a phase of that expert"
            yield Finding(f"{one.field}.path", "warning", one.lora.path, one.lora.path, reason)
        else:
            other, scale = _OTHER[guess.expert], one.lora.scale
            remedy = f"give 0 for {other}, and the strength for {guess.expert}"
            yield Finding(f"{one.field}.{other}", "warning", scale, scale, f"{_made_for(guess)}: {remedy}")


def _is_staged(one: _Opened) -> bool:
    return not one.field.startswith("loras")


def _guesses(opened: Sequence[_Opened]) -> list[tuple[_Opened, Intended]]:
    """Return the LoRAs that change a stage and say for which one expert they were made."""
    guessed = (
        (one, _guess(one))
        for one in opened
        if one.lora.scale and not one.problem and isinstance(one.lora, LoRAWeight)
    )
    return [(one, guess) for one, guess in guessed if guess.expert in _OTHER]


def _guess(one: _Opened) -> Intended:
    """Guess from the file, or from the name of one that only a provider or a download reads."""
    if one.file is not None:
        return guess_expert(one.file)
    named = one.lora.path.partition("?")[0].rstrip("/").rpartition("/")[2]
    return guess_expert_by_name(getattr(one.lora, "weight_name", None) or named)


def _made_for(guess: Intended) -> str:
    return f"the file seems to be made for the {guess.expert}-noise expert ({guess.evidence} says so)"


def _fit(one: _Opened, layouts: Mapping[str, Recipe], allow_partial: bool) -> dict[Status, str]:
    """Return why a LoRA is refused, or what of it has no effect, on the experts that it is for."""
    lora = one.read
    targets = [one.lora.transformer] if one.lora.transformer in layouts else list(layouts)
    told: dict[str, list[str]] = {}
    for expert in targets:
        report = LoraReport(
            lora.file, expert, one.lora.scale, describe_lora(lora), cover(layouts[expert], lora, expert)
        )
        reason = refusal(report)
        if reason and not (allow_partial and report.coverage.matched):
            return {"impossible": reason}
        if lines := report.coverage.lines()[1:]:
            told.setdefault("; ".join(lines), []).append(expert)
    where = (f"on the {' and the '.join(experts)}-noise expert: {text}" for text, experts in told.items())
    return {"warning": "; ".join(where)} if told else {}


def _layouts(model: AnyModel) -> Mapping[str, Recipe]:
    if isinstance(model, HostModel):
        return {name: model.networks.layout(name) for name in model.facts}
    return model.experts


def _of_other_width(one: _Opened, family: Family) -> dict[Status, str]:
    lora = one.read
    width = width_of(lora)
    if width in (None, family.hidden_width):
        return {}
    made_for = guess_base(lora).name
    return {"warning": f"seems to be made for {made_for}; {family.name} has width {family.hidden_width}"}
