"""What a build of one's own can be attested to have made, and attestations held against files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorapipe.build.events import Event, Hashing, Listener
from lorapipe.build.locks.drift import drift
from lorapipe.build.locks.locking import locate, locked_view, required, right_outputs
from lorapipe.build.proving.envelopes import is_envelope, payload_of, verify
from lorapipe.build.proving.recovery import told_by
from lorapipe.build.proving.statements import BUILDER, Named, RecipeText, statement, subjects_of
from lorapipe.build.records import Records
from lorapipe.build.run import Options, plan, recipe_folder
from lorapipe.errors import CheckFailed, InputError
from lorapipe.formats.containers.json_file import object_of, read_object
from lorapipe.formats.files import SUFFIXES
from lorapipe.plan.files import Digests
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.provenance import source_date
from lorapipe.plan.recovery import recovered_recipe
from lorapipe.recipe.model import Recipe
from lorapipe.remote.url import Location, Url
from lorapipe.store.contents import walk
from lorapipe.store.lockfile import relative

if TYPE_CHECKING:
    from lorapipe.build.proving.envelopes import PublicKey

__all__ = ["Verified", "attest_output", "attest_recipe", "is_output", "verify_attestation"]

_LIMIT = 16 << 20  # bytes of an attestation; one of 2,000 files has a hundredth of it


@dataclass(frozen=True, slots=True)
class Verified:
    """An attestation whose files are right: their names, who built them, and whether a key says so."""

    files: tuple[str, ...]
    builder: str
    signed: bool


def _ignore(event: Event) -> None:
    pass


def is_output(path: Path) -> bool:
    """Whether a path is that of weights, and not of a recipe."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def attest_recipe(
    recipe: Recipe,
    options: Options,
    *,
    builder: str = BUILDER,
    with_dependencies: bool = False,
    listen: Listener = _ignore,
) -> dict[str, Any]:
    """The statement of what ``recipe`` made, from its lock; nothing is built.

    After a shuffle neither recipe nor inputs are told unless ``with_dependencies``.

    Raises :class:`~lorapipe.errors.LockError` where lock and recipe differ or there is none, and
    :class:`~lorapipe.errors.CheckFailed` ``not-as-built`` for an output that is not what the lock says.
    """
    path = locate(recipe, options.lock)
    lock = required(path)
    made = plan(recipe, options, read=True, listen=listen)
    drift(lock, made).refuse(str(path), any_profile=False)
    if not made.outputs:
        raise CheckFailed("not-as-built", "it saves nothing that could be attested", where=recipe.file)
    told = with_dependencies or not any(_hidden(each, made) for each in made.outputs)
    root = _root(recipe, options)
    with _digests(listen) as records:
        records.elsewhere.trust(locked_view(lock, recipe_folder(recipe)).marks)
        right = right_outputs(lock, made)
        wrong = [each.output for each in made.outputs if not _is_right(each, right, records)]
        if wrong:
            names = ", ".join(_name(each, root) for each in wrong if each is not None)
            hint = "'lorapipe run' builds it"
            raise CheckFailed("not-as-built", f"not what the lock says: {names}", hint=hint, where=str(path))
        outputs = [name for each in made.outputs for name in _files(each.output, root, records)]
        inputs = _inputs(made, records.digests) if told else []
    text = Path(recipe.file).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    whole = RecipeText(Path(recipe.file).name, text.decode(errors="replace"), digest, recipe.params)
    date = source_date(os.environ)
    return statement(
        outputs, made.profile, recipe=whole if told else None, inputs=inputs, builder=builder, date=date
    )


def attest_output(path: Path, *, builder: str = BUILDER, listen: Listener = _ignore) -> dict[str, Any]:
    """The statement of how a file or folder was made, from what it tells of that itself.

    Only of what this user's lorapipe wrote: anybody can write metadata. Raises
    :class:`~lorapipe.errors.CheckFailed` ``not-ours``, and what
    :func:`~lorapipe.build.proving.recovery.recover` raises.
    """
    told = told_by(path)
    whole = Path(os.path.abspath(path))  # noqa: PTH100  # the journal knows links by their own names
    with _digests(listen) as records:
        if records.digests.hash(whole) not in {sha256 for sha256, _ in records.built(whole)}:
            raise CheckFailed(
                "not-ours",
                "lorapipe has no record of writing it as it is",
                hint="attest its recipe, where that was run",
                where=str(path),
            )
        outputs = list(_files(whole, whole.parent, records))
    text = recovered_recipe(told, f"{whole.name}/" if whole.is_dir() else whole.name).text
    recipe = RecipeText("recovered", text, hashlib.sha256(text.encode()).hexdigest())
    inputs = [Named(s.name, s.sha256, not s.name.lower().endswith(SUFFIXES)) for s in told.sources]
    date = source_date(os.environ)
    return statement(outputs, told.profile, recipe=recipe, inputs=inputs, builder=builder, date=date)


def verify_attestation(path: Path, root: Path | None = None, key: PublicKey | None = None) -> Verified:
    """Hold an attestation against the files that it names, which lie under ``root`` (where it lies itself).

    With a ``key`` it has to be signed by it. Raises :class:`~lorapipe.errors.CheckFailed`:
    ``not-signed``, ``bad-signature``, ``subject-mismatch``; and :class:`~lorapipe.errors.InputError`
    for what is no attestation.
    """
    where = str(path)
    found: Mapping[str, Any] = read_object(path, _LIMIT, "attestation")
    if is_envelope(found):
        payload = payload_of(found, where) if key is None else verify(found, key, where)
        found = _object(payload, where)
    elif key is not None:
        hint = "without --key its files alone are checked"
        raise CheckFailed("not-signed", "it is not signed", hint=hint, where=where)
    subjects = subjects_of(found, where)
    _hold(subjects, (path.parent if root is None else root).resolve(), where)
    return Verified(tuple(each.name for each in subjects), _builder(found), key is not None)


def _object(payload: bytes, where: str) -> dict[str, object]:
    try:
        return object_of(payload)
    except ValueError as error:
        raise InputError(
            "envelope-malformed", f"holds no statement: {error}", hint="make it again", where=where
        ) from None


def _hold(subjects: Iterable[Named], root: Path, where: str) -> None:
    """See that every subject is as it was; all that are not are named."""
    wrong: list[str] = []
    with _digests(_ignore) as records:
        for subject in subjects:
            file = (root / subject.name).resolve() if "\0" not in subject.name else root.parent
            if not file.is_relative_to(root) or file == root:
                raise InputError(
                    "bad-subject",
                    f"names a file outside {root}: {subject.name}",
                    hint="--root DIR says where its files are",
                    where=where,
                )
            if not file.is_file():
                wrong.append(f"{subject.name}: not there")
            elif (sha256 := records.digests.hash(file)) != subject.sha256:
                wrong.append(f"{subject.name}: has sha256 {sha256[:12]}..., not {subject.sha256[:12]}...")
    if wrong:
        count = "1 file is" if len(wrong) == 1 else f"{len(wrong)} files are"
        hint = "--root DIR says where its files are, if they are not beside it"
        raise CheckFailed(
            "subject-mismatch", f"{count} not what it says", hint=hint, where=where, details=wrong
        )


def _builder(found: Mapping[str, Any]) -> str:
    level: Any = found
    for key in ("predicate", "runDetails", "builder", "id"):
        level = level.get(key) if isinstance(level, dict) else None
    return level if isinstance(level, str) else "unknown"


def _hidden(output: PlannedStep, made: Plan) -> bool:
    return any(getattr(made.steps[term.step].spec, "hidden", False) for term in output.step.terms())


def _root(recipe: Recipe, options: Options) -> Location:
    """Where the names of outputs begin."""
    root = options.output_root or recipe_folder(recipe)
    return root if isinstance(root, Url) else root.resolve()


def _name(path: Location, root: Location) -> str:
    """The name of a file from where its like begin; a URL's are in it, as a folder's are."""
    if isinstance(path, Url) and isinstance(root, Url):
        return path.relative_to(root).as_posix()
    assert isinstance(root, Path)
    return relative(path, root)


def _is_right(output: PlannedStep, right: Mapping[Location, tuple[str, str]], records: Records) -> bool:
    path = output.output
    assert path is not None
    return path in right and records.there(path) and records.digest(path, read=True) == right[path][0]


def _files(path: Location | None, root: Location, records: Records) -> Iterator[Named]:
    """An output's file, or each file of its folder: what others match a statement by is a file's digest."""
    assert path is not None
    if isinstance(path, Url):
        if not path.is_folder:
            yield Named(_name(path, root), records.digest(path, read=True) or "")
            return
        for file in records.elsewhere.files(path):
            yield Named(_name(file.url, root), records.digests.hash(file))
        return
    names = [path / name for name, _ in walk(path)] if path.is_dir() else [path]
    for each in names:
        yield Named(_name(each, root), records.digests.hash(each))


def _inputs(made: Plan, digests: Digests) -> list[Named]:
    """The inputs above the outputs by their bare names; of a folder each file that counts."""
    inputs = []
    for name in _above(made):
        source = made.steps[name].source
        if source is not None and source.folder is not None:
            parts = [f"{source.path.name}/{part}" for part in source.parts]
            inputs += [Named(n, digests.hash(file)) for n, file in zip(parts, source.files, strict=True)]
        elif source is not None:
            (file,) = source.files
            inputs.append(Named(source.path.name, digests.hash(file)))
    return inputs


def _above(made: Plan) -> set[str]:
    found: set[str] = set()
    pending = [output.step.id for output in made.outputs]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += [term.step for term in made.steps[name].step.terms()]
    return found


def _digests(listen: Listener) -> Records:
    return Records(looking=False, progress=lambda path, done, total: listen(Hashing(path, done, total)))
