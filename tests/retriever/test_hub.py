"""Models by name from the Hugging Face Hub, and sent to it, against a small server that speaks its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch
from hub_server import TOKEN, HubServer, run_with_hub

from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.matchers import HAN, HANConfig, hub
from han_retrieval.matchers.hub import is_hub_name
from han_retrieval.matchers.sharing import push_folder
from han_retrieval.regions.backbones.loading import offline
from han_retrieval.retriever import load
from han_retrieval.storage.folder_checksums import accept_files
from han_retrieval.text import Vocabulary

pytest.importorskip("huggingface_hub")


def save_model(folder: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_sentences(["a red ball"])
    config = HANConfig(region_size=6, vocabulary_size=len(vocabulary), word_size=5, joint_size=8)
    card = "---\nlicense: other\ntags: [mine]\n---\n\n# Small\n\nMy words.\n"
    HAN(config, vocabulary=vocabulary).save_pretrained(folder, card=card)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    """A server with the model user/small, whose repository has a pickle too."""
    served = save_model(tmp_path / "served")
    (served / "pytorch_model.bin").write_bytes(b"a pickle that nobody asked for")
    found = HubServer()
    found.serve("user/small", served)
    yield found
    found.close()


def fails(call: str) -> str:
    return f"try: {call}\nexcept han.HANError as error: print(type(error).__name__, error)\n"


def test_a_model_is_downloaded_once_and_without_pickles(server: HubServer, tmp_path: Path) -> None:
    code = (
        "loaded = han.load('user/small')\n"
        "print(loaded.name, loaded.model.config.joint_size, *loaded.encode_texts(['ball'])[0].tokens.shape)\n"
        "print(han.load('user/small', local_files_only=True).model.config == loaded.model.config)"
    )
    result = run_with_hub(code, tmp_path, server.endpoint)
    assert result.stdout.splitlines() == ["user/small 8 1 8", "True"], result.stderr
    assert not any("pytorch_model.bin" in path for _, path in server.asked if "/resolve/" in path)


def test_a_revision_stays_when_the_model_is_updated(server: HubServer, tmp_path: Path) -> None:
    repository = server.repositories["user/small"]
    first = repository.commits[0][0]
    newer = save_model(tmp_path / "newer", seed=1)
    repository.commit({file.name: file.read_bytes() for file in newer.iterdir()})
    code = (
        "weights = lambda **more: float(next(han.load(**more).model.parameters()).sum())\n"
        f"pinned = weights(name='user/small@{first}')\n"
        f"print(pinned == weights(name='user/small', revision='{first}'), pinned == weights(name='user/small'))\n"
        "from han_retrieval.matchers import hub, load_matcher, model_folder\n"
        f"print(hub.reference(model_folder('user/small@{first}')))\n"
        f"print(float(next(load_matcher('user/small@{first}').parameters()).sum()) == pinned)\n"
        + fails("han.load('user/small@none')")
        + fails(f"han.load('user/small@{first}', revision='main')")
        + fails("hub.refuse_cached(model_folder('user/small'))")
        + "from han_retrieval.search.maker import Maker\n"  # what an index remembers
        "class Fake: fingerprint, feature_size = 'fake', 6\n"
        f"print(Maker.load(model_folder('user/small@{first}'), detector=Fake()).name)\n"
        "from huggingface_hub import constants, HfApi\n"
        "HfApi.repo_info = None\n"  # a commit does not change, and is not asked for
        f"print(model_folder('user/small@{first}').is_dir())"
    )
    result = run_with_hub(code, tmp_path, server.endpoint)
    lines = result.stdout.splitlines()
    assert lines[:3] == ["True False", f"user/small@{first}", "True"], result.stderr
    assert lines[3].startswith("ModelError user/small@none: no such folder, nor a model")
    assert lines[3].endswith("the Hub has no such revision of it: name a branch, tag or commit that its page lists")
    assert lines[4].startswith("ConfigError user/small: revision")
    assert "nothing is written into the Hub's cache; take a copy: hf download user/small --revision" in lines[5]
    assert lines[6:] == [f"user/small@{first}", "True"]
    assert hub.reference(tmp_path / "served") is None


def test_a_model_that_was_damaged_on_its_way_is_not_used(server: HubServer, tmp_path: Path) -> None:
    weights = server.repositories["user/small"].commits[0][1]
    content = weights["model.safetensors"]
    weights["model.safetensors"] = content[:-1] + bytes([content[-1] ^ 1])
    result = run_with_hub(fails("han.load('user/small')"), tmp_path, server.endpoint)
    assert "model.safetensors: is damaged or was changed" in result.stdout, result.stderr
    assert "download it again: hf download user/small --force-download" in result.stdout


def test_local_files_only_is_for_what_a_model_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    class Model:
        config = SimpleNamespace(detector_fingerprint="fake-1-36", region_size=8)

        def to(self, device: str) -> Model:
            return self

    asked: list[str] = []

    def loading(what: str, made: object) -> Callable[..., object]:
        return lambda *_, **__: asked.append(f"{what} {constants.HF_HUB_OFFLINE}") or made

    detector = SimpleNamespace(fingerprint="fake-1-36", feature_size=8)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("han_retrieval.retriever.load_matcher", loading("model", Model()))
    for module in ("regions", "matchers.detectors"):
        monkeypatch.setattr(f"han_retrieval.{module}.detector_for", loading("detector", detector))
    for local in (True, False):
        assert load(tmp_path, local_files_only=local).detector is detector
        load(tmp_path, detector="fake", local_files_only=local)
    assert asked == [*["model True", "detector True"] * 2, *["model False", "detector False"] * 2]
    assert not constants.HF_HUB_OFFLINE


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mine: revision 'v1' is of a model on the Hub, which this is not; leave it"):
        load(save_model(tmp_path / "mine"), revision="v1")


@pytest.mark.slow  # the client waits between its tries
def test_a_download_that_is_cut_goes_on_and_is_never_used_in_half(server: HubServer, tmp_path: Path) -> None:
    repository = server.repositories["user/small"]
    repository.cut = 1
    result = run_with_hub("han.load('user/small'); print('loaded')", tmp_path / "served", server.endpoint)
    assert result.stdout == "loaded\n", result.stderr
    repository.cut = 1000
    code = f"import time; time.sleep = lambda seconds: None\n{fails(chr(34).join(('han.load(', 'user/small', ')')))}"
    result = run_with_hub(code, tmp_path, server.endpoint)
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.stdout + result.stderr
    assert "user/small: no such folder, nor a model that can be had" in lines[0]
    code = fails("han.load('user/small', local_files_only=True)")
    result = run_with_hub(code, tmp_path, server.endpoint)
    assert "user/small: " in result.stdout, result.stderr
    assert len(result.stdout.splitlines()) == 1
    repository.cut = 0
    result = run_with_hub("han.load('user/small'); print('loaded')", tmp_path, server.endpoint)
    assert result.stdout == "loaded\n", result.stderr


def test_what_the_hub_does_not_give_is_one_line(server: HubServer, tmp_path: Path) -> None:
    for name, status in (("gated", (403, "GatedRepo")), ("shut", (403, "")), ("ill", (500, ""))):
        server.serve(f"user/{name}", tmp_path / "served").status = status
    names = ("none", "gated", "shut", "ill")
    result = run_with_hub("".join(fails(f"han.load('user/{n}')") for n in names), tmp_path, server.endpoint)
    lines = dict(zip(names, result.stdout.splitlines(), strict=True))
    for name, line in lines.items():
        assert line.startswith(f"ModelError user/{name}: no such folder, nor a model"), result.stderr
    assert "the Hub has none of that name, or it is private: then `hf auth login`" in lines["none"]
    assert "accept its terms on its page of the Hub, then `hf auth login`" in lines["gated"]
    assert "you may not read it (403): `hf auth login`" in lines["shut"]
    assert "the Hub answers 500" in lines["ill"]
    gone = run_with_hub(fails("han.load('user/small')"), tmp_path, "http://127.0.0.1:9")
    assert "the Hub cannot be reached, and it is not whole in the cache" in gone.stdout, gone.stderr


def test_a_model_is_pushed_in_one_commit_and_loaded_again(server: HubServer, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "mine", seed=3)
    (folder / "calibration.json").write_text("{}")
    (folder / "training").mkdir()
    (folder / "notes.txt").write_text("private")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    recalls = {"R@1": 10.0, "R@5": 20.0, "R@10": 30.0}
    figures = {
        "image_to_text": recalls,
        "text_to_image": recalls,
        "rsum": 120.0,
        "dataset": "flickr8k",
        "split": "test",
    }
    code = (
        "from pathlib import Path\n"
        "from han_retrieval.matchers.sharing import push_folder\n"
        f"print(push_folder(Path('mine'), 'user/mine', private=True, message='Mine', language='en', "
        f"datasets=['user/set'], results=[{figures!r}]))\n"
        "loaded = han.load('user/mine')\n"
        "print(loaded.push_to_hub('user/copy', license='cc-by-4.0'))\n"
        "print(loaded.model.push_to_hub('user/mine', message='Again'))\n"
        "from han_retrieval.matchers import load_matcher\n"
        "models = loaded.model, load_matcher('mine'), load_matcher('user/copy')\n"
        "print(len({float(next(model.parameters()).sum()) for model in models}))"
    )
    result = run_with_hub(code, tmp_path, server.endpoint, HF_TOKEN=TOKEN)
    mine, _, _, same = result.stdout.splitlines()
    repository = server.repositories["user/mine"]
    assert repository.private
    assert same == "1"
    assert server.messages == ["Mine", "Upload a model of han-retrieval", "Again"]
    assert mine == f"{server.endpoint}/user/mine/commit/{repository.commits[1][0]}"
    files = repository.commits[1][1]
    assert set(files) == {
        *(".gitattributes", "README.md", "calibration.json", "checksums.json", "config.json", "model.safetensors"),
        "vocabulary.json",
    }
    assert set(files) - set(repository.commits[2][1]) == {"calibration.json"}  # which the model lacks that came next
    from huggingface_hub import ModelCard

    card = ModelCard(files["README.md"].decode())
    assert "My words." in card.text
    data = card.data.to_dict()
    assert (data["license"], data["language"], data["datasets"]) == ("other", "en", ["user/set"])
    assert data["tags"] == ["mine", "image-text-retrieval", "han"]
    assert (data["library_name"], data["pipeline_tag"]) == ("han-retrieval", "image-feature-extraction")
    (entry,) = data["model-index"]
    assert entry["name"] == "mine"
    metrics = {each["type"]: each["value"] for found in entry["results"] for each in found["metrics"]}
    assert metrics["image_to_text_r_at_1"] == 10.0
    assert metrics["rsum"] == 120.0
    assert ModelCard(server.repositories["user/copy"].commits[-1][1]["README.md"].decode()).data.license == "cc-by-4.0"


def test_a_model_alone_does_not_delete_a_backbone_that_was_trained(server: HubServer, tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    there = server.serve("user/trained", tmp_path / "mine")
    there.commit({"backbone/config.json": b"{}"})
    code = fails("han.load('mine').model.push_to_hub('user/trained')") + (
        "from pathlib import Path\n"
        "from han_retrieval.matchers.sharing import push_folder\n"
        "push_folder(Path('mine'), 'user/trained', message='Whole')\n"
    )
    result = run_with_hub(code, tmp_path, server.endpoint, HF_TOKEN=TOKEN)
    assert "ModelError user/trained: the model there has a trained backbone" in result.stdout, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert server.messages == ["Whole"]
    assert "backbone/config.json" not in there.commits[-1][1]  # a whole model takes the place of the other


def test_what_cannot_be_pushed_is_one_line(server: HubServer, tmp_path: Path) -> None:
    mine, damaged, bad = (save_model(tmp_path / name) for name in ("mine", "damaged", "bad"))
    (damaged / "model.safetensors").write_bytes(b"x")
    (bad / "README.md").write_text("---\ntags: [a\n---\n\n# Bad\n")
    (tmp_path / "empty").mkdir()
    for folder, name, more, reason in (
        (mine, "mine", {}, "'mine': not a name on the Hub; give user/name"),
        (damaged, "user/mine", {}, "model.safetensors: is cut off or was changed"),
        (tmp_path / "empty", "user/mine", {}, "config.json is missing"),
        (bad, "user/mine", {}, "the card's metadata, between the lines --- of README.md, cannot be read"),
        (mine, "user/mine", {"results": [{"rsum": 1.0}]}, "the results lack recalls or rSum"),
    ):
        with pytest.raises(HANError, match=reason) as error:
            push_folder(folder, name, **more)
        assert "\n" not in str(error.value)
    head = "from pathlib import Path\nfrom han_retrieval.matchers.sharing import push_folder\n"
    push = head + fails("push_folder(Path('mine'), 'user/mine')")
    denied = run_with_hub(push, tmp_path, server.endpoint)
    told = "ModelError user/mine: cannot be uploaded: you may not write there (401): `hf auth login`"
    assert denied.stdout.startswith(told), denied.stderr
    assert "user/mine" not in server.repositories


@pytest.mark.parametrize(
    ("field", "value", "is_place"),
    [
        ("text_encoder", "hf:/home/me/bert", True),
        ("text_encoder", "hf:./bert@proj", True),
        ("text_encoder", "hf:C:\\models\\bert", True),
        ("text_encoder", "open_clip:./clip", True),
        ("text_encoder", "open_clip:clip", True),
        ("text_encoder", "open_clip:ViT-B-16//home/me/w.pt", True),
        ("text_encoder", "open_clip:ViT-B-16/w.pt@proj", True),
        ("text_encoder", "open_clip:ViT-B-16/laion2b_s34b_b88k@proj", False),
        ("text_encoder", "open_clip:hf-hub:timm/ViT-B-16-SigLIP", False),
        ("text_encoder", "hf:user/name@0123abc@proj", False),
        ("detector_fingerprint", "grid-1-36-efficientnet-lite2-0-1+2+timm:vit@/home/me/w.pth-1-0-224x224.16.b.0", True),
        ("detector_fingerprint", "patches-1-36+hf:/home/me/dino-1-0-224x224.16.bicubic.0123", True),
        ("detector_fingerprint", "patches-1-36+open_clip:ViT-B-16//me/w.pt-1-0-224x224.16.bicubic.0123", True),
        ("detector_fingerprint", "patches-1-36+timm:hf-hub:timm/test_vit-1-0-224x224.16.bicubic.0123", False),
        ("detector_fingerprint", "patches-1-36+open_clip:ViT-B-16/openai@proj-1-0-224x224.16.bicubic.0123", False),
    ],
)
def test_a_model_that_names_a_place_of_this_machine_is_not_pushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str, is_place: bool
) -> None:
    folder = save_model(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(config))
    accept_files(folder, ["config.json"])
    monkeypatch.setattr(hub, "upload", lambda *_, **__: "sent")
    if not is_place:
        assert push_folder(folder, "user/mine") == "sent"
        return
    with pytest.raises(ModelError, match=rf"{field} is {re.escape(value)}, a place on this machine"):
        push_folder(folder, "user/mine")


@pytest.mark.slow  # the client waits between its tries
def test_a_push_without_a_network_is_one_line(tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    push = "from pathlib import Path\nfrom han_retrieval.matchers.sharing import push_folder\n"
    push += fails("push_folder(Path('mine'), 'user/mine')")
    gone = run_with_hub(push, tmp_path, "http://127.0.0.1:9", HF_TOKEN=TOKEN)
    assert gone.stdout.startswith("ModelError user/mine: cannot be uploaded: the Hub cannot be reached"), gone.stderr


def test_the_verb_pushes_with_the_figures_of_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from commands import run_han

    sent: dict[str, object] = {}

    def upload(folder: Path, name: str, **options: object) -> str:
        sent.update(folder=folder, name=name, **options)
        return "https://hub/user/mine"

    monkeypatch.setattr(hub, "upload", upload)
    folder = save_model(tmp_path / "mine")
    columns = {
        "id": ["1"],
        "image": ["1"],
        "fold": [0],
        "rank": [1],
        "AP@R": [1.0],
        "R-Precision": [1.0],
        "nDCG@10": [1.0],
    }
    recalls = {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0}
    content = {"image_to_text": recalls, "text_to_image": recalls, "rsum": 12.0, "dataset": "d", "split": "dev"}
    content["equal_captions"] = "relevant"
    results = tmp_path / "a.json"
    results.write_text(json.dumps({**content, "queries": {"image_to_text": columns, "text_to_image": columns}}))
    code, out, err = run_han(capsys, "push", folder, "user/mine", "--private", "--results", results)
    assert (code, out) == (0, "https://hub/user/mine\n"), err
    assert "no --license given" in err
    assert (sent["name"], sent["private"], sent["keeps_backbone"]) == ("user/mine", True, False)
    assert "text_to_image_r_at_5" in str(sent["card"])
    assert "rSum, equal captions relevant" in str(sent["card"])


def test_loads_at_once_leave_the_hub_as_it_was() -> None:
    from huggingface_hub import constants

    before, first_in, second_in, first_out = constants.HF_HUB_OFFLINE, Event(), Event(), Event()

    def first() -> None:
        with offline():
            first_in.set()
            second_in.wait(0.3)
        first_out.set()

    def second() -> None:
        first_in.wait(5)
        with offline():
            second_in.set()
            first_out.wait(5)

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == constants.HF_HUB_OFFLINE


def test_without_the_library_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install 'han-retrieval\[hub\]'"):
        hub.download("user/small")


def test_paths_are_no_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("user/name")
    assert is_hub_name("user/name@v1.0")
    (tmp_path / "runs").mkdir()
    for path in ("runs/model", "./model", "a/b/c", "model", "/runs/model", "user/", "..", tmp_path / "user" / "name"):
        assert not is_hub_name(path)
