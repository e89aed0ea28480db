"""JobFolder: the files of one attempt at a job on this machine's disk.

Inputs lie in it under their own names, so that what the verb says and writes names no other place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from quantlab.data.readers import NPZ_LIST
from quantlab.data.readers.classes import find_synsets
from quantlab.errors import DataError
from quantlab.runs.folders import RECORD
from quantlab.serve.objects import Objects, is_key
from quantlab.serve.packed import Bounds, is_packed, unpack
from quantlab.serve.queue import Job
from quantlab.serve.requests import AnyRequest, Places, command_line
from quantlab.serve.service import request_of

DATASETS = "datasets"
RECIPES = "recipes"
RUNS = "runs"
_STUDY = "study.db"
"""Made again from what is kept; a database cannot be copied while it is written."""


@dataclass
class JobFolder:
    """``argv`` is the command line of quantlab that does the job; ``read`` are places outside that
    it needs. ``inputs`` are the names that are no results."""

    path: Path
    job: Job
    objects: Objects
    bounds: Bounds
    argv: list[str] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)
    _kept: dict[str, tuple[int, int]] = field(default_factory=dict)

    def lay_out(self) -> None:
        """Create the job's folder with its inputs; a tune that lost its worker gets back the stored
        part of its run.

        Raises QuantlabError for what is not there any more.
        """
        self.remove()
        self.path.mkdir(parents=True)
        request = request_of(self.job)
        places = self._places(request)
        self.argv = command_line(request, places)
        if request.verb == "tune" and (run := self._restore()) is not None:
            self.argv = ["tune", f"--resume={RUNS}/{run}", *(["--gate"] if request.gate else [])]

    def remove(self) -> None:
        """Remove the folder; targets of links in it stay."""
        shutil.rmtree(self.path, ignore_errors=True)

    def results(self) -> dict[str, Path]:
        """The files that the job has written, by their paths in the folder."""
        return dict(self._written(self.path))

    def keep(self) -> None:
        """Puts what is new of the run into the store, the oldest first: what names other files is
        written after them. For a tune, while it goes on. Raises OutputError: try again later."""
        runs = self.path / RUNS
        fresh = []
        for name, path in self._written(runs) if runs.is_dir() else ():
            if not path.name.startswith(_STUDY):
                seen = path.stat()
                mark = (seen.st_mtime_ns, seen.st_size)
                if self._kept.get(name) != mark:
                    fresh.append((mark, name, path))
        for mark, name, path in sorted(fresh):
            self.objects.put(f"{self.job.folder}/{name}", path)
            self._kept[name] = mark

    def _written(self, folder: Path) -> Iterator[tuple[str, Path]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            ours = name.partition("/")[0] in self.inputs
            if not ours and is_key(name) and path.is_file() and not path.is_symlink():
                yield name, path

    def _places(self, request: AnyRequest) -> Places:
        inputs = self.job.inputs
        data = {option: self._dataset(facts) for option, facts in inputs["data"].items()}
        lists = {
            option: link
            for option in ("list_file", "synsets")
            if (link := self._beside(inputs["data"].get("data", {}), option))
        }
        if link := self._beside(inputs["data"].get("eval_data", {}), "list_file"):
            lists["eval_list"] = link
        return Places(
            models=[self._model(facts) for facts in inputs["models"]],
            data=data,
            lists=lists,
            recipe=self._recipe(inputs["recipe"]) if "recipe" in inputs else None,
            baseline=self._baseline(inputs["baseline"]) if "baseline" in inputs else None,
        )

    def _model(self, facts: dict[str, str]) -> str:
        """An unpacked zip, and the second of two models of one name, lie in folders of their own.
        All are called as the service calls them."""
        sha256, name = facts["sha256"], f"{facts['name']}.onnx"
        own, upload = self.path / sha256[:12], self.path / f".{sha256}"
        self.objects.get(f"models/{sha256}", upload)
        if is_packed(upload):
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir()
            unpacked = unpack(upload, own, self.bounds)
            file = unpacked.rename(unpacked.with_name(name))
            upload.unlink()
        else:
            file = (own if name in self.inputs else self.path) / name
            file.parent.mkdir(exist_ok=True)
            upload.rename(file)
        place = file.relative_to(self.path)
        self.inputs.add(place.parts[0])
        return place.as_posix()

    def _dataset(self, facts: dict[str, str | None]) -> str:
        """A file lies in its folder: its reader may want its name, and what is beside it."""
        path = Path(str(facts["path"]))
        if not path.exists():
            raise DataError(f"the dataset {facts['name']} is not on this machine.")
        if path.is_dir():
            self.read.append(path)
            place = self._link(str(facts["name"]), path)
        else:
            self.read.append(path.parent if path.name == NPZ_LIST else path)
            place = f"{self._link(str(facts['name']), path.parent)}/{path.name}"
        if facts["synsets"] is None and (found := find_synsets(path)) is not None:
            self.read.append(found.path)
        return place

    def _beside(self, facts: dict[str, str | None], option: str) -> str | None:
        """The link to a dataset's list or class list, if it has one."""
        if not (text := facts.get(option)):
            return None
        path = Path(text)
        if not path.exists():
            raise DataError(f"a list of the dataset {facts['name']} is not on this machine.")
        self.read.append(path)
        return self._link(f"{facts['name']}.{option}{path.suffix}", path)

    def _link(self, name: str, target: Path) -> str:
        link = self.path / DATASETS / name
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)
        self.inputs.add(DATASETS)
        return f"{DATASETS}/{name}"

    def _recipe(self, facts: dict[str, str | None]) -> str:
        if facts["text"] is None:
            return str(facts["name"])
        name = f"{RECIPES}/{facts['name']}.yaml"
        (self.path / RECIPES).mkdir()
        (self.path / name).write_text(facts["text"])
        self.inputs.add(RECIPES)
        return name

    def _baseline(self, files: dict[str, str]) -> str:
        """``files``: keys of the store by file name; the YAML is the baseline itself."""
        for name, key in files.items():
            self.objects.get(key, self.path / name)
            self.inputs.add(name)
        return next(name for name in files if name.endswith(".yaml"))

    def _restore(self) -> str | None:
        """The run that earlier attempts have left in the store, if any; now it is in the folder.

        Of each file the newest is taken: an attempt that went on may have been lost before it had
        kept all that it was given. What was written last is read first: it names what was written
        before it.
        """
        newest: dict[str, str] = {}
        for attempt in range(1, self.job.attempts):
            place = f"jobs/{self.job.id}/{attempt}/{RUNS}"
            newest |= {name: f"{place}/{name}" for name in self.objects.sizes(place)}
        run = max((n.partition("/")[0] for n in newest if n.endswith(f"/{RECORD}")), default=None)
        if run is None:
            return None
        mine = [name for name in newest if name.startswith(f"{run}/")]
        for name in sorted(mine, key=lambda name: not name.endswith(".json")):
            self.objects.get(newest[name], self.path / RUNS / name)
        return run
