"""Damaged uploads: mutants of models, YAML, npz and JPEG files, through the service's own readers.

    python benchmarks/mutants.py [--count 1000] [--seed 0] [--kinds onnx,yaml,npz,jpeg]
        [--out reports/mutants.md]

A mutant is a sound file with bits flipped, ends cut off, pieces moved, repeated or taken from
another file, numbers replaced by extreme ones. A confined process reads many, one after the other;
each must be read, or refused with a QuantlabError; it may write in its own folder only. Where the
process itself dies (in a library's native code), that is counted, the mutant is named by its seed
and goes through ``run_task`` as an upload would: the client must get a reason. A kind and a seed
always give the same mutant: ``--one onnx:17`` writes it to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from select import select
from typing import IO, Any

from quantlab.errors import QuantlabError
from quantlab.serve.process import run_task
from quantlab.serve.sandbox import SandboxLimits, confine

KINDS = ("onnx", "yaml", "npz", "jpeg")
LIMITS = SandboxLimits(memory_bytes=2 * 10**9, cpu_seconds=3600, seconds=30.0, file_bytes=10**8)
"""Of the process that reads many; of an upload, the same with less CPU time."""
LIBRARIES = ("onnx", "onnxruntime", "protobuf", "numpy", "pillow", "pyyaml")
LONGEST = 2_000
"""Characters of what is said to the client."""
Corpus = dict[str, bytes]
Read = Callable[[Path, Path], object]


# --- mutants ---------------------------------------------------------------------------------


_EXTREMES = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1,
             2**63 - 1, -(2**63))  # fmt: skip
_WORDS = {
    "onnx": [b"Loop", b"../../x", b"/etc/passwd", b"com.evil", b"\xff" * 9 + b"\x01", b"\n\x00"],
    "yaml": [
        b"&a ", b"*a", b"!!python/object/apply:os.system [id]", b"<<: ", b"1e999", b".nan",
        b"-.inf", b"[" * 40, b"{" * 40, b"? ", b"- ", b": ", b"|\n", b"\t", b"\x00", b"null", b"~",
        b"9" * 400, b"2026-99-99", b"0x", b"1_0", b"\xef\xbb\xbf", b"--- \n", b"!!set {a}",
        b"!!binary x", b"'", b'"', b"0.5", b"-1", b"true", b"[]", b"{}", b"!!int ''", b"12:30:45",
        b"=",
    ],
    "npz": [b"'descr': '|O'", b"'shape': (-1,)", b"(99999999999,)", b"PK\x01\x02", b"\x93NUMPY\x02",
            b"'<M8[ns]'", b"'<U9999'", b"True"],
    "jpeg": [b"\xff\xd8", b"\xff\xc0", b"\xff\xda", b"\xff\xe1", b"Exif\x00\x00", b"\xff\xd9",
             b"\xff\xff\xff\xff"],
}  # fmt: skip


def mutant(kind: str, corpus: Corpus, seed: int) -> tuple[str, bytes]:
    """The name of the sound file it was made of, and its bytes."""
    rng = random.Random(f"{kind} {seed}")
    name = rng.choice(sorted(corpus))
    data = bytearray(corpus[name])
    if kind == "onnx" and name != "zip" and rng.random() < 0.5:
        return name, _graph_mutant(bytes(data), rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        change = rng.choice(_CHANGES)
        change(data, rng, kind, corpus)
    return name, bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, but rather in the first bytes, where the structure is."""
    return rng.randrange(min(len(data), rng.choice((64, 512, len(data) + 1))) or 1)


def _flip(data: bytearray, rng: random.Random, *_: object) -> None:
    for _ in range(rng.choice((1, 2, 16))):
        if data:
            data[_place(data, rng) % len(data)] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random, *_: object) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(data: bytearray, rng: random.Random, *_: object) -> None:
    start = _place(data, rng)
    del data[start : start + rng.choice((1, 4, 64, 1024))]


def _swap(data: bytearray, rng: random.Random, *_: object) -> None:
    size = rng.choice((4, 32, 256))
    first, second = sorted((_place(data, rng), _place(data, rng)))
    if second - first >= size:
        piece = data[first : first + size]
        data[first : first + size] = data[second : second + size]
        data[second : second + size] = piece


def _repeat(data: bytearray, rng: random.Random, *_: object) -> None:
    start = _place(data, rng)
    piece = data[start : start + rng.choice((1, 16, 256))]
    data[start:start] = piece * rng.choice((1, 2, 100))


def _extreme(data: bytearray, rng: random.Random, *_: object) -> None:
    """A length, a size or another number."""
    width, code = rng.choice(((1, "b"), (2, "h"), (4, "i"), (8, "q")))
    start, value = _place(data, rng), rng.choice(_EXTREMES) % 2 ** (8 * width)
    data[start : start + width] = struct.pack(rng.choice("<>") + code.upper(), value)


def _word(data: bytearray, rng: random.Random, kind: str, corpus: Corpus) -> None:
    start, word = _place(data, rng), rng.choice(_WORDS[kind])
    data[start : start + rng.choice((0, len(word)))] = word


def _splice(data: bytearray, rng: random.Random, kind: str, corpus: Corpus) -> None:
    other = corpus[rng.choice(sorted(corpus))]
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((16, 256, 4096))]
    data[_place(data, rng) :] = piece if rng.random() < 0.3 else piece + data[len(data) // 2 :]


def _graph_mutant(data: bytes, rng: random.Random) -> bytes:
    """A model that protobuf can read, of another meaning."""
    import onnx

    proto = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_GRAPH_CHANGES)(proto.graph, rng)
    content: bytes = proto.SerializeToString()
    return content


def _attribute(graph: Any, rng: random.Random) -> None:
    found = [a for node in graph.node for a in node.attribute]
    if found:
        attribute, value = rng.choice(found), rng.choice(_EXTREMES)
        attribute.i, attribute.f = value, rng.choice((0.0, -1.0, float("nan"), 1e38))
        for place in range(len(attribute.ints)):
            attribute.ints[place] = rng.choice((value, 0, 1, 3, -1))


def _tensor(graph: Any, rng: random.Random) -> None:
    tensor, execution = rng.choice(graph.initializer), rng.randrange(5)
    if execution == 0:
        tensor.data_type = rng.randrange(-1, 30)
    elif execution == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_EXTREMES)
    elif execution == 2:
        tensor.dims.extend([1] * rng.choice((1, 5, 500)))
    elif execution == 3:
        tensor.raw_data = rng.randbytes(len(tensor.raw_data))
    else:
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        place = ("../../x", "/etc/passwd", "x" * 5000, "a\0b", "", ".", "own/upload", "\U0001f600")
        tensor.external_data.add(key="location", value=rng.choice(place))
        tensor.external_data.add(key="offset", value=rng.choice(("-1", "x", "9" * 30, "0")))


def _wiring(graph: Any, rng: random.Random) -> None:
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    node = rng.choice(graph.node)
    side = node.input if rng.random() < 0.7 and node.input else node.output
    if side:
        side[rng.randrange(len(side))] = rng.choice([*names, "", "nowhere"])


def _operator(graph: Any, rng: random.Random) -> None:
    operators = (
        *("Add", "Conv", "Reshape", "Loop", "If", "ConstantOfShape", "Tile", "Expand", "Resize"),
        *("QLinearConv", "MatMulInteger", "Einsum", "StringNormalizer", "TopK", "NonZero"),
    )
    node = rng.choice(graph.node)
    node.op_type = rng.choice(operators)
    node.domain = rng.choice(("", "", "com.microsoft", "evil"))


def _nodes(graph: Any, rng: random.Random) -> None:
    place = rng.randrange(len(graph.node))
    if rng.random() < 0.5:
        graph.node.add().CopyFrom(graph.node[place])
    elif len(graph.node) > 1:
        del graph.node[place]


def _type(graph: Any, rng: random.Random) -> None:
    value = rng.choice([*graph.input, *graph.output])
    tensor = value.type.tensor_type
    if rng.random() < 0.4:
        tensor.elem_type = rng.randrange(-1, 30)
    elif tensor.shape.dim:
        size = tensor.shape.dim[rng.randrange(len(tensor.shape.dim))]
        size.dim_value = rng.choice((*_EXTREMES, 3, 5, 1000))


_GRAPH_CHANGES = (_attribute, _tensor, _wiring, _operator, _nodes, _type)
_CHANGES = (_flip, _flip, _cut, _drop, _swap, _repeat, _extreme, _extreme, _word, _splice)


# --- sound files -----------------------------------------------------------------------------


def onnx_files(folder: Path) -> Corpus:
    """Models of several kinds, quantized ones too, and a zip with external data."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    from quantlab.testing.models import tiny_classifier

    made = {
        "plain": tiny_classifier(folder / "plain.onnx", classes=4, size=8),
        "uint8": tiny_classifier(folder / "uint8.onnx", size=8, layout="NHWC", dtype="uint8"),
        "old": tiny_classifier(folder / "old.onnx", size=8, opset=7, batch_norm=True, softmax=True),
    }
    made["int8"] = folder / "int8.onnx"
    quantize_dynamic(made["plain"], made["int8"])
    outside = folder / "outside"
    outside.mkdir()
    onnx.save(onnx.load(made["plain"]), outside / "m.onnx", save_as_external_data=True,
              location="m.bin", size_threshold=0)  # fmt: skip
    with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(outside.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
    return {name: path.read_bytes() for name, path in {**made, "zip": folder / "zip"}.items()}


def read_onnx(path: Path, folder: Path) -> None:
    from quantlab.serve.checks import check_upload
    from quantlab.serve.packed import Bounds

    check_upload(path, folder, Bounds(max_bytes=10**7))


RECIPE = """\
name: mine
format: qdq
activations: u8
weights: s8
per_channel: true
equalize: true
ranges: mean
exclude: [stem, pointwise]
images_per_class: 2
seed: 3
"""
CONFIG = """\
model: m.onnx
data: val
criterion: top5.decline <= 1%
budget: 90s
engine: quantlab
search: {weights: [s8, u8], ranges: [mean, minmax]}
gate: {require: ['top1.decline <= 0.5pp', size <= 30MB, 'agreement >= 96%'], baseline: b.yaml}
"""
INC = """\
model: {name: mobilenetv2, framework: onnxrt_qlinearops}
quantization:
  approach: post_training_static_quant
  calibration:
    sampling_size: 50, 100
    dataloader:
      batch_size: 1
      dataset: {ImagenetRaw: {data_path: val, image_list: val.txt}}
      transform: {Rescale: {}, Resize: {size: 256}, CenterCrop: {size: 224}}
  model_wise: {weight: {granularity: per_channel, scheme: sym, algorithm: minmax}}
evaluation:
  accuracy:
    metric: {topk: 1}
    dataloader: {dataset: {ImagenetRaw: {data_path: val}}}
tuning:
  accuracy_criterion: {relative: 0.02}
  exit_policy: {timeout: 0, max_trials: 5}
  strategy: {name: bayesian}
"""
MINDCV = "image_resize: 224\ncrop_pct: 0.875\nmean: [123, 117, 104]\nckpt_path: ''\nlr: 0.3\n"
PIPELINE = (
    "resizer: pillow-bilinear\nresize: 36\ncrop: 32\nmean: [127, 127, 127]\nstd: [64, 64, 64]\n"
)


def yaml_files(folder: Path) -> Corpus:
    """A recipe, configurations of three kinds, a pipeline, a baseline, a server's settings."""
    from quantlab.gate.baseline import as_yaml, baseline_of
    from quantlab.testing.predictions import fake_predictions
    from quantlab.verbs.config import template

    answers = fake_predictions(50, 4, 0.1, 0)
    facts = dict.fromkeys(("isa", "quantlab", "onnxruntime", "pillow"), "1")
    baseline = baseline_of(answers, answers.accuracy, size_bytes=1000, environment=facts)
    texts = {
        "recipe": RECIPE,
        "config": CONFIG,
        "template": template(),
        "inc": INC,
        "mindcv": MINDCV,
        "pipeline": PIPELINE,
        "baseline": as_yaml(baseline, "quantlab baseline update"),
        "settings": "max_model: 10MB\njob_time: 2h\ndomains: ['', ai.onnx]\nconfine: true\n",
    }
    return {name: text.encode() for name, text in texts.items()}


def read_yaml_file(path: Path, folder: Path) -> None:
    """As each kind of YAML that there is: an upload may be meant as any."""
    from quantlab.data.preprocess import get_pipeline
    from quantlab.gate.baseline import load_baseline
    from quantlab.serve.settings import load_settings
    from quantlab.verbs.config import effective, load
    from quantlab.verbs.quantize import find_recipe

    yaml = path.rename(folder / "upload.yaml")
    readers: tuple[Callable[[], object], ...] = (
        lambda: find_recipe(str(yaml)),
        lambda: effective(load(yaml).config, {}),
        lambda: get_pipeline(yaml),
        lambda: load_baseline(yaml),
        lambda: load_settings(yaml),
    )
    problems = []
    for read in readers:
        try:
            read()
        except QuantlabError as error:
            problems.append(error)
    if len(problems) == len(readers):
        raise problems[0]


def npz_files(folder: Path) -> Corpus:
    """Images with labels, and predictions of several kinds."""
    import numpy as np

    from quantlab.testing.images import npz_file
    from quantlab.testing.predictions import fake_predictions

    npz_file(folder / "images.npz", [0, 1, 2, 3], size=8)
    predictions = fake_predictions(20, 4, 0.1, 0)
    predictions.save(folder / "predictions.npz")
    predictions.save(folder / "packed.npz", compressed=True)
    np.savez(folder / "answers.npz", names=np.array(["a.png", "b.png"]), outputs=np.eye(2))
    np.savez_compressed(folder / "small.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    return {path.stem: path.read_bytes() for path in folder.glob("*.npz")}


def read_npz(path: Path, folder: Path) -> None:
    """As a dataset, as predictions and as a device's answers."""
    from quantlab.data.readers import open_dataset
    from quantlab.evaluate.device import read_answers
    from quantlab.evaluate.predictions import Predictions

    npz = path.rename(folder / "upload.npz")

    def images() -> None:
        dataset = open_dataset(npz)
        for index in range(min(len(dataset), 4)):
            dataset[index]

    readers: tuple[Callable[[], object], ...] = (
        images,
        lambda: Predictions.load(npz, max_bytes=10**8).accuracy,
        lambda: read_answers(npz),
    )
    problems = []
    for read in readers:
        try:
            read()
        except QuantlabError as error:
            problems.append(error)
    if len(problems) == len(readers):
        raise problems[0]


def jpeg_files(folder: Path) -> Corpus:
    """Baseline, progressive and grey, turned by EXIF, in CMYK."""
    from PIL import Image

    from quantlab.testing.images import photo

    def encoded(image: Image.Image, **options: Any) -> bytes:
        buffer = BytesIO()
        image.save(buffer, "JPEG", **options)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    picture = photo(1, 2, 48)
    return {
        "baseline": encoded(picture, quality=90),
        "progressive": encoded(picture, progressive=True),
        "grey": encoded(picture.convert("L")),
        "turned": encoded(picture, exif=exif.tobytes()),
        "cmyk": encoded(picture.convert("CMYK")),
    }


def read_jpeg(path: Path, folder: Path) -> None:
    from quantlab.data.images import decode, quiet_pillow

    with quiet_pillow():
        image = decode(path.read_bytes(), path.name)
    assert image.mode == "RGB"


SOUND: dict[str, Callable[[Path], Corpus]] = {
    "onnx": onnx_files, "yaml": yaml_files, "npz": npz_files, "jpeg": jpeg_files
}  # fmt: skip
READERS: dict[str, Read] = {
    "onnx": read_onnx, "yaml": read_yaml_file, "npz": read_npz, "jpeg": read_jpeg
}  # fmt: skip


# --- the confined process --------------------------------------------------------------------


def work(kind: str, place: Path) -> None:
    """Reads a seed a line, says what became of its mutant, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    own = place / "own"
    confine([place / "sound"], [own], LIMITS)
    corpus = {path.name: path.read_bytes() for path in (place / "sound").iterdir()}
    folder = own / "folder"
    os.chdir(own)
    for line in sys.stdin:
        name, data = mutant(kind, corpus, int(line))
        folder.mkdir()
        path = own / "upload"
        path.write_bytes(data)
        outcome, words = _tried(READERS[kind], path, folder)
        shutil.rmtree(folder)
        answers.write(json.dumps([name, outcome, words]) + "\n")
        answers.flush()


def _tried(read: Read, path: Path, folder: Path) -> tuple[str, str]:
    try:
        read(path, folder)
    except QuantlabError as error:
        words = str(error)
        told = 0 < len(words) < LONGEST and len(words.splitlines()) <= 2
        return ("refused", "") if told and "Traceback" not in words else ("bug", words)
    except MemoryError:
        return "memory", ""
    except Exception:
        return "bug", traceback.format_exc()[-1500:]
    return "read", ""


# --- the one that tries ----------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the mutants of one kind. ``bugs``: by seed, what was wrong; ``deaths``: by
    seed, what the client is told."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bugs: dict[int, str] = field(default_factory=dict)
    deaths: dict[int, str] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)


def tried(kind: str, count: int, first: int = 0) -> Tally:
    """``count`` mutants of one kind, by their seeds from ``first`` on."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("sound", "own", "made"):
            (place / part).mkdir()
        for label, content in SOUND[kind](place / "made").items():
            (place / "sound" / label).write_bytes(content)
        before = _files(place)
        seeds = iter(range(first, first + count))
        pending: int | None = next(seeds, None)
        while pending is not None:
            with _worker(kind, place) as process:
                while pending is not None:
                    answer = _asked(process, pending)
                    if answer is None:
                        tally.outcomes["died"] += 1
                        tally.deaths[pending] = told(kind, pending, place)
                        pending = next(seeds, None)
                        break
                    _, outcome, words = answer
                    tally.outcomes[outcome] += 1
                    if outcome == "bug":
                        tally.bugs[pending] = words
                    pending = next(seeds, None)
            shutil.rmtree(place / "own")
            (place / "own").mkdir()
        tally.outside = sorted(_files(place) ^ before)
    return tally


def _files(place: Path) -> set[str]:
    return {str(path) for path in place.rglob("*") if "own" not in path.relative_to(place).parts}


@contextmanager
def _worker(kind: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).resolve()), "--work", kind, str(place)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            _closed(stream)


def _closed(stream: IO[str]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        return


def _asked(process: subprocess.Popen[str], seed: int) -> list[str] | None:
    """What became of a mutant; None where the process died of it, or was slow."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    if not select([process.stdout], [], [], LIMITS.seconds)[0]:
        return None
    line = process.stdout.readline()
    found: list[str] | None = json.loads(line) if line.endswith("\n") else None
    return found


def told(kind: str, seed: int, place: Path) -> str:
    """What a client hears of an upload that its reader died of. Empty if nothing."""
    if kind != "onnx":
        return ""
    corpus = {path.name: path.read_bytes() for path in (place / "sound").iterdir()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "upload"
        file.write_bytes(mutant(kind, corpus, seed)[1])
        (folder / "work").mkdir()
        task = {"task": "check", "file": str(file), "bounds": {}}
        try:
            run_task(task, folder / "work", LIMITS, read=[file], required=False)
        except QuantlabError as error:
            return error.problem
    return "it passes alone"


def page(tallies: dict[str, Tally], seed: int) -> str:
    """The report."""
    lines = [
        "# Mutants", "",
        f"Damaged files through the service's readers, seeds from {seed} on. *Died*: the confined "
        "process died in native code; the client was told so. Libraries: "
        f"{', '.join(f'{name} {version(name)}' for name in LIBRARIES)}.", "",
        "| kind | mutants | read | refused | out of memory | died | bugs |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for kind, tally in tallies.items():
        counts = [tally.outcomes[name] for name in ("read", "refused", "memory", "died", "bug")]
        lines.append(f"| {kind} | " + " | ".join(map(str, [sum(counts), *counts])) + " |")
    for kind, tally in tallies.items():
        lines += [
            f"\n{kind}:{seed}: {words}" for seed, words in (tally.deaths | tally.bugs).items()
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every mutant was read or refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", metavar="KIND:SEED", help="write this mutant to a file")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        work(given.work[0], Path(given.work[1]))
        return 0
    if given.one:
        kind, seed = given.one.split(":")
        with tempfile.TemporaryDirectory() as name:
            _, data = mutant(kind, SOUND[kind](Path(name)), int(seed))
        Path(f"{kind}-{seed}").write_bytes(data)
        return 0
    tallies = {kind: tried(kind, given.count, given.seed) for kind in given.kinds.split(",")}
    text = page(tallies, given.seed)
    print(text, end="")
    if given.out:
        given.out.write_text(text)
    bad = any(t.bugs or t.outside or "" in t.deaths.values() for t in tallies.values())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
