from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omnirt_lab.errors import ModelLoadError, UnknownModelError
from omnirt_lab.pipelines.catalog import find_model, get_model, list_models
from tests.pipelines import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    tiny.build("sd").save_pretrained(folder)
    return folder


@pytest.fixture
def broken(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "broken"))


@pytest.fixture
def hub_cache(sd_folder: Path, tmp_path: Path) -> Path:
    """A Hugging Face cache that holds one pipeline, laid out as the hub's own client does."""
    repository = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(sd_folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    return tmp_path / "hub"


def change_index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_says_its_class_tasks_and_sizes(sd_folder):
    model = get_model(str(sd_folder))

    assert (model.kind, model.location) == ("folder", str(sd_folder))
    assert model.pipeline_class == "StableDiffusionPipeline"
    assert model.tasks == ("text2image", "image2image", "inpaint")
    assert (model.default_size_px, model.size_multiple_px) == (64, 8)


@pytest.mark.parametrize(("family", "multiple_px"), [("sd3", 8), ("flux", 8), ("wan", 16)])
def test_the_size_multiple_follows_vae_and_patches(family, multiple_px, tmp_path):
    tiny.build(family).save_pretrained(tmp_path / family)

    assert get_model(str(tmp_path / family)).size_multiple_px == multiple_px


def test_a_folder_whose_files_change_has_another_revision(broken):
    before = get_model(str(broken)).revision

    os.utime(broken / "unet" / "config.json", ns=(1, 1))

    assert get_model(str(broken)).revision != before


def test_a_cached_hub_model_is_found_and_listed_offline(hub_cache):
    model = get_model("acme/tiny", cache_dir=hub_cache)

    assert (model.kind, model.location, model.revision) == ("hub", "acme/tiny", COMMIT)
    assert model in list_models(cache_dir=hub_cache)


def test_a_cache_that_does_not_exist_lists_no_hub_model(tmp_path):
    assert all(model.kind == "builtin" for model in list_models(cache_dir=tmp_path / "none"))


def test_an_unknown_name_is_none_to_find_and_an_error_with_the_nearest_to_get(hub_cache):
    assert find_model("acme/tini", cache_dir=hub_cache) is None
    with pytest.raises(UnknownModelError, match="acme/tini") as caught:
        get_model("acme/tini", cache_dir=hub_cache)
    assert "acme/tiny" in caught.value.hint
    assert "HF_HUB_OFFLINE" in caught.value.hint
    with pytest.raises(UnknownModelError) as caught:
        get_model("tiny-shape", cache_dir=hub_cache)
    assert "tiny-shapes" in caught.value.hint


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match=r"no model_index\.json"):
        get_model(str(tmp_path))


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, "names no pipeline class"),
        ({"_class_name": "FluxModularPipeline", "_blocks_class_name": "B", "auto_map": {}}, "Python code of its own"),
        (
            {"_class_name": "FluxModularPipeline", "_blocks_class_name": "B", "vae": ["mine.vae", "Vae", {}]},
            "Python code of its own",
        ),
        (
            {
                "_class_name": "FluxModularPipeline",
                "_blocks_class_name": "B",
                "vae": ["diffusers", "AutoencoderKL", {}],
            },
            "no files in 'vae'",
        ),
    ],
)
def test_a_modular_folder_that_is_incomplete_or_brings_code_is_refused(tmp_path, index, said):
    (tmp_path / "modular_model_index.json").write_text(json.dumps(index))

    with pytest.raises(ModelLoadError, match=said) as caught:
        get_model(str(tmp_path))

    assert caught.value.hint


def test_a_single_file_is_refused_with_the_way_out(tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"")
    with pytest.raises(ModelLoadError, match="single file") as caught:
        get_model(str(checkpoint))
    assert "from_single_file" in caught.value.hint


@pytest.mark.parametrize("text", ["{nope", "[]", '{"_diffusers_version": "0.1"}'])
def test_an_index_that_is_no_index_is_refused(broken, text):
    (broken / "model_index.json").write_text(text)

    with pytest.raises(ModelLoadError, match=r"model_index\.json"):
        get_model(str(broken))


def test_a_missing_or_empty_component_folder_is_named(broken):
    for path in (broken / "tokenizer").iterdir():
        path.unlink()
    with pytest.raises(ModelLoadError, match="'tokenizer'"):
        get_model(str(broken))

    (broken / "tokenizer").rmdir()
    with pytest.raises(ModelLoadError, match="'tokenizer'"):
        get_model(str(broken))


def test_a_model_that_brings_its_own_code_is_refused_and_the_code_does_not_run(broken):
    change_index(broken, _class_name=["pipeline", "Evil"])
    with pytest.raises(ModelLoadError, match="code of its own"):
        get_model(str(broken))

    change_index(broken, _class_name="StableDiffusionPipeline", unet=["evil", "Evil"])
    (broken / "unet" / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelLoadError, match="code of its own"):
        get_model(str(broken))


def test_the_catalog_loads_no_torch():
    code = (
        "import sys; from omnirt_lab.pipelines.catalog import list_models; list_models();"
        "print(*sys.modules.keys() & {'torch', 'diffusers', 'transformers'})"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []
