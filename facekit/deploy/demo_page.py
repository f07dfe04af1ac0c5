"""A page that looks an image up in a run's gallery, in a browser alone: a folder of plain files."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from facekit.common import machine
from facekit.common.errors import DataError, say
from facekit.common.files import write_whole
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.data.pairs import PairData
from facekit.evaluation import rules
from facekit.evaluation.embed import TrainedRun
from facekit.sources.manifest import read_manifest
from facekit.submission.pipeline import Verification, decide

OWN = Path(__file__).parent / "page"  # what every page has
RUNTIME = "onnxruntime-web@1.30.0"  # on npm, MIT: what runs the network in a browser
RUNTIME_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
OFFERED = 3  # probes of people in the gallery, and as many of strangers
THUMBNAIL = 96  # pixels


def write(
    run: TrainedRun,
    data: CourseData | PairData,
    folder: Path,
    network: bytes,
    photographs: bool = False,
) -> str:
    """Write the page into `folder`; what is to be said of it. `network`: the run's ONNX file.

    It decides by a threshold on the similarity: the run's own where that is its rule, else the
    best on the dev probes. It shows images of the gallery and offers dev probes where they are
    made people, and photographs only where they are asked for. Raises DataError for data without
    a gallery, for a folder that holds something else, and where the runtime cannot be had.
    """
    if data.has_pairs:
        raise DataError(f"{data.root}: has pairs and no gallery, which a page needs")
    if folder.exists() and any(folder.iterdir()) and not (folder / "gallery.json").is_file():
        raise DataError(f"{folder}: holds something else; choose another folder for the page")
    runtime = _runtime()
    dev, decision = decide(run, data, rules.PLAIN)
    files = {path.name: path.read_bytes() for path in OWN.iterdir()}
    files |= {f"runtime/{name}": content for name, content in runtime.items()}
    facts = _facts(dev, decision.threshold)
    if photographs or read_manifest(data.root).get("source") == "synthetic":
        facts["images"], thumbnails = _thumbnails(data)
        facts["probes"], probes = _probes(data, dev)
        files |= thumbnails | probes
    files["gallery.bin"] = dev.evidence.gallery.astype("<f4").tobytes()
    files["model.onnx"] = network
    files["gallery.json"] = json.dumps(facts).encode()
    shutil.rmtree(folder / "images", ignore_errors=True)  # of another gallery
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content, sync_folder=False)
    return (
        f"{folder}: {len(dev.identities)} people, threshold {decision.threshold:.3f}; open it by "
        f"python -m http.server --directory {folder}"
    )


def _facts(dev: Verification, threshold: float) -> dict[str, object]:
    """What the page has to know beside embeddings; threshold as the kit has it."""
    low, high = (-1.0, 1.0) if dev.evidence.measure == "cosine" else (float(dev.scores.min()), 0.0)
    return {
        "names": dev.identities,
        "length": dev.evidence.gallery.shape[1],
        "measure": dev.evidence.measure,
        "threshold": float(threshold),
        "range": [min(low, threshold), max(high, threshold)],
        "images": None,  # a file for each name
        "probes": [],
    }


def _thumbnails(data: CourseData) -> tuple[list[str], dict[str, bytes]]:
    """A small image of everybody in the gallery: their files' names in order, and the files."""
    files = {}
    for place, path in enumerate(data.known.paths):
        image = read_rgb(path)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        files[f"images/known-{place:05}.jpg"] = _encoded(image, "JPEG")
    return list(files), files


def _probes(data: CourseData, dev: Verification) -> tuple[list[dict], dict[str, bytes]]:
    """Some dev probes as the page wants them, with whom they show, and their files."""
    known, strangers = np.flatnonzero(dev.truth >= 0), np.flatnonzero(dev.truth < 0)
    facts, files = [], {}
    for row in (*known[:OFFERED], *strangers[:OFFERED]):
        name = f"images/probe-{len(files)}.png"  # exact, where browsers decode JPEG each their way
        files[name] = _encoded(read_rgb(data.unknown_dev.paths[row]), "PNG")
        truth = dev.identities[dev.truth[row]] if dev.truth[row] >= 0 else "a stranger"
        facts.append({"file": name, "truth": truth})
    return facts, files


def _encoded(image: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def _runtime() -> dict[str, bytes]:
    """The files of onnxruntime-web by name, from the cache or by npm; their hash is checked."""
    path = Path(machine.cache().value, f"{RUNTIME.replace('@', '-')}.tgz")
    packed = path.read_bytes() if path.is_file() else _packed(path)
    if base64.b64encode(hashlib.sha512(packed).digest()).decode() != RUNTIME_SHA512:
        raise DataError(f"{path}: not the {RUNTIME} that this kit knows; delete it and try again")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, packed)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {name: archive.extractfile(f"package/dist/{name}").read() for name in RUNTIME_FILES}


def _packed(path: Path) -> bytes:
    """The package as npm brings it. Raises DataError that says how to have it at `path`."""
    advice = f"or, where npm is, type npm pack {RUNTIME} and put the file that it makes at {path}"
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm, which brings {RUNTIME}, is not here; install Node.js, {advice}")
    say(f"getting {RUNTIME} by npm, 33 MB, this once")
    with TemporaryDirectory() as folder:
        command = [npm, "pack", RUNTIME, "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        made = Path(folder, path.name)
        if done.returncode or not made.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise DataError(f"npm cannot bring {RUNTIME} ({reason}); try again, {advice}")
        return made.read_bytes()
