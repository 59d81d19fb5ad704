"""From the tensors of one module to what they are: format, shape, scale, by headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lorapipe.formats.adapters.dialects import ALPHA, BIASES, SCALE, WRAPPER, forms
from lorapipe.formats.adapters.found import Found, Scale
from lorapipe.formats.adapters.grouping import Group, form_of
from lorapipe.formats.adapters.peft_config import Configs, PeftConfig
from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen
from lorapipe.formats.forms.lora import DOWN, UP
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import FLOATING, TensorSpec

__all__ = ["Maker"]

_DIFF, _LORA_BIAS, _MAGNITUDE = ".diff", ".lora_B.bias", ".lora_magnitude_vector"

_NO_NUMBERS = frozenset({".on_input", ".reshape_weight", ".oft_R.scaled_oft"})
"""Roles that say something of a module and are none of its numbers: a flag, a shape."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the modules of one file; what is wrong with them is noted in ``problems``.

    ``alpha`` is what the recipe says where the file does not.
    """

    tensors: Mapping[str, TensorSpec]
    configs: Configs | None
    alpha: float | None
    problems: Problems

    def modules(self, group: Group) -> Iterator[Found]:
        """The module that a group of tensors is, and the biases that stand with it."""
        roles = group.roles
        biases = {role: group.tensors[role] for role in sorted(BIASES & roles)}
        roles -= BIASES
        scale = Scale()
        if roles or not biases:
            made = self._module(group, roles)
            if made is None:
                return
            scale = made.scale
            yield made
        for role, name in biases.items():
            yield from self._bias(group, role, name, scale)

    def _module(self, group: Group, roles: frozenset[str]) -> Found | None:
        form = form_of(roles)
        if form is None:
            self._no_form(group, roles)
            return None
        names = {role: group.tensors[role] for role in form.roles if role in roles}
        config, path = self._config(group)
        if config is not None and form.configured is not None:
            form = form.configured(config.settings(path))
        measured = self._measured(group.stem, form, names)
        if measured is None or not self._strength_is_sound(group):
            return None
        scale = self._scale(group, measured, config, path)
        transposed = form.transposed or (
            config is not None and config.transposed and len(measured.shape) == 2
        )
        found = Found(group.stem, group.path, names, form, measured, scale, group.up, transposed=transposed)
        if config is not None and self._contradicted(found, config, path, biased=_LORA_BIAS in group.tensors):
            return None
        return found

    def _measured(self, stem: str, form: AdapterForm, names: Mapping[str, str]) -> Measured | None:
        specs = {role: self.tensors[name] for role, name in names.items()}
        odd = [role for role, spec in specs.items() if spec.dtype not in FLOATING and role not in _NO_NUMBERS]
        for role in odd:
            self.problems.add("factors-not-floating", f"{names[role]} ({specs[role].dtype})")
        if odd:
            return None
        try:
            return form.measure(specs)
        except Misshapen as fault:
            self.problems.add(fault.code, f"{stem} ({fault})")
            return None

    def _no_form(self, group: Group, roles: frozenset[str]) -> None:
        if not roles:
            self.problems.add("alpha-without-factors", group.stem)
        elif roles == {UP}:
            self.problems.add("up-without-down", group.stem)
        elif roles == {DOWN}:
            self.problems.add("down-without-up", group.stem)
        else:
            code = "half-missing" if any(roles <= form.roles.keys() for form in forms()) else "mixed-formats"
            self.problems.add(code, f"{group.stem} ({', '.join(sorted(role[1:] for role in roles))})")

    def _strength_is_sound(self, group: Group) -> bool:
        names = (group.tensors.get(ALPHA), group.tensors.get(SCALE))
        odd = [name for name in names if name is not None and self.tensors[name].size != 1]
        for name in odd:
            self.problems.add("alpha-not-scalar", f"{name} {list(self.tensors[name].shape)}")
        return not odd

    def _config(self, group: Group) -> tuple[PeftConfig | None, str]:
        known = None if self.configs is None else self.configs.of(group.stem)
        if known is None:
            return None, group.path
        return known[0], known[1].replace(WRAPPER, "", 1)

    def _scale(self, group: Group, measured: Measured, config: PeftConfig | None, path: str) -> Scale:
        said = None if config is None else config.scale(path)
        if said is None and self.alpha is not None and measured.divisor is not None:
            said = self.alpha / measured.divisor
        return Scale(measured.divisor, group.tensors.get(ALPHA), group.tensors.get(SCALE), said)

    def _contradicted(self, found: Found, config: PeftConfig, path: str, *, biased: bool) -> bool:
        """Whether the settings are those of another adapter."""
        rank, divisor = config.rank(path), found.measured.divisor
        said = ""
        if not all(role.startswith(config.prefix) for role in found.tensors):
            said = f"{found.form.name}, the config says {config.method}"
        elif config.alpha is not None and divisor is not None and rank != divisor:
            said = f"rank {divisor}, the config says {rank:g}"
        elif config.dora != (_MAGNITUDE in found.tensors) and config.method == "LORA":
            said = f"{'no ' if config.dora else ''}DoRA, the config says otherwise"
        elif biased and not config.fields.get("lora_bias"):
            said = "a bias, the config says none"
        if said:
            self.problems.add("config-contradicts", f"{found.stem} ({said})")
        return bool(said)

    def _bias(self, group: Group, role: str, name: str, scale: Scale) -> Iterator[Found]:
        form = form_of(frozenset({_DIFF}))
        if form is None:
            self.problems.add("unknown-tensors", name)
            return
        measured = self._measured(group.stem, form, {_DIFF: name})
        if measured is not None:
            scaled = scale if role == _LORA_BIAS else Scale()
            yield Found(group.stem, group.path, {_DIFF: name}, form, measured, scaled, bias=True)
