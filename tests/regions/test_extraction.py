from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fake_detector import SIZE, FakeDetector, make_photos
from packed_files import write_parquet, write_shard
from PIL import Image

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos, read_dataset
from han_retrieval.errors import HANError
from han_retrieval.regions import Regions, RegionStore, extract


def contents(out) -> dict[str, bytes]:
    store = RegionStore.open(out)
    assert len(set(store.ids)) == len(store.ids)
    return {
        photo_id: regions.features.tobytes() + regions.boxes.tobytes()
        for photo_id, regions in zip(store.ids, store.read(store.ids), strict=True)
    }


def photos_of(*paths) -> CaptionedPhotos:
    return CaptionedPhotos("photos", paths[0].parent, tuple(CaptionedPhoto(path.name, path, ("x",)) for path in paths))


def test_every_photo_is_kept_as_the_detector_found_it(tmp_path):
    photos = make_photos(tmp_path / "photos", 11)
    detector = FakeDetector()
    report = extract(photos, detector, tmp_path / "features", batch_size=4, threads=3)
    assert (report.done, report.already_there, report.skipped) == (11, 0, [])
    assert report.seconds > 0
    assert detector.batches == [4, 4, 3]
    store = RegionStore.open(tmp_path / "features")
    assert store.ids == [photo.id for photo in photos.photos]
    assert (store.fingerprint, store.feature_size) == ("fake:1", SIZE)
    for photo, stored, regions in zip(photos.photos, store.photos(), store.read(store.ids), strict=True):
        wanted = detector.regions(np.asarray(Image.open(photo.path).convert("RGB")).astype(np.int64))
        assert np.array_equal(regions.features, wanted.features)
        assert np.array_equal(regions.boxes, wanted.boxes)
        assert regions.labels == wanted.labels
        assert (stored.path, stored.width, stored.height) == (photo.path, 24, 16)


def test_a_second_run_looks_only_at_new_photos(tmp_path):
    photos = make_photos(tmp_path / "photos", 6)
    some = photos.only([photo.id for photo in photos.photos[1:4]])
    extract(some, FakeDetector(), tmp_path / "features")
    detector = FakeDetector()
    report = extract(photos, detector, tmp_path / "features")
    assert (report.done, report.already_there) == (3, 3)
    assert sum(detector.batches) == 3
    extract(photos, FakeDetector(), tmp_path / "at once")
    assert contents(tmp_path / "features") == contents(tmp_path / "at once")
    again = extract(photos, FakeDetector(), tmp_path / "features")
    assert (again.done, again.already_there) == (0, 6)


def test_photos_that_cannot_be_read_are_skipped_with_the_reason_and_tried_again(tmp_path):
    good = make_photos(tmp_path, 3).photos
    text, empty, torn = (tmp_path / name for name in ("text.jpg", "empty.jpg", "torn.jpg"))
    text.write_text("not a photo")
    empty.touch()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    torn.write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    listed = [good[0].path, text, empty, good[1].path, torn, tmp_path / "gone.jpg", good[2].path]
    photos = photos_of(*listed)
    photos = CaptionedPhotos("x", tmp_path, (*photos.photos, CaptionedPhoto("featured", None, ("x",))))

    report = extract(photos, FakeDetector(), tmp_path / "out", batch_size=2)
    reasons = dict(report.skipped)
    assert report.done == 3
    assert list(reasons) == [str(text), str(empty), str(torn), str(tmp_path / "gone.jpg"), "featured"]
    assert "not an image" in reasons[str(text)]
    assert "empty" in reasons[str(empty)]
    assert "cut off" in reasons[str(torn)]
    assert "no such photo" in reasons[str(tmp_path / "gone.jpg")]
    assert "no file" in reasons["featured"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [(line["photo"], line["reason"]) for line in lines] == report.skipped

    extract(make_photos(tmp_path / "others", 1), FakeDetector(), tmp_path / "out")  # of which none is skipped
    assert (tmp_path / "out" / "skipped.jsonl").read_text().splitlines() == [json.dumps(line) for line in lines]

    Image.fromarray(noise).save(text)
    again = extract(photos_of(*listed), FakeDetector(), tmp_path / "out")
    assert (again.done, again.already_there, len(again.skipped)) == (1, 3, 3)
    assert "text.jpg" in RegionStore.open(tmp_path / "out")
    for path in (empty, torn, tmp_path / "gone.jpg"):
        Image.fromarray(noise).save(path)
    assert extract(photos_of(*listed), FakeDetector(), tmp_path / "out").skipped == []
    left = [json.loads(line)["photo"] for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert left == ["featured"]  # which is of the first dataset alone
    photos = CaptionedPhotos("x", tmp_path, (*photos.photos[:-1], CaptionedPhoto("featured", good[0].path, ("x",))))
    extract(photos, FakeDetector(), tmp_path / "out")
    assert not (tmp_path / "out" / "skipped.jsonl").exists()


def test_an_interrupt_within_a_commit_loses_nothing(tmp_path, monkeypatch):
    photos, append = make_photos(tmp_path, 6), RegionStore.append

    def interrupted(store, rows):
        monkeypatch.setattr(RegionStore, "append", append)
        raise KeyboardInterrupt

    monkeypatch.setattr(RegionStore, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, FakeDetector(), tmp_path / "features")
    assert len(RegionStore.open(tmp_path / "features")) == 6


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_photo_whose_name_is_no_text_is_skipped_by_a_name_that_can_be_shown(tmp_path):
    good = make_photos(tmp_path, 3).photos
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        good[1].path.rename(odd)
    except OSError:
        pytest.skip("the file system refuses such names")
    report = extract(photos_of(good[0].path, odd, good[2].path), FakeDetector(), tmp_path / "out")
    assert report.done == 2
    assert report.skipped == [(str(tmp_path / "caf\ufffd.png"), "its name is not UTF-8; rename it")]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_store_of_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(HANError, match=r"caf\ufffd: its name is not UTF-8"):
        extract(make_photos(tmp_path, 1), FakeDetector(), tmp_path / os.fsdecode(b"caf\xe9"))


def test_a_photo_whose_features_are_not_finite_is_skipped(tmp_path):
    class Odd(FakeDetector):
        def detect(self, photos):
            found = super().detect(photos)
            if len(self.batches) == 2:
                found[0].features[0, 3] = np.inf
            return found

    photos = make_photos(tmp_path / "photos", 6)
    report = extract(photos, Odd(), tmp_path / "out", batch_size=2)
    assert report.skipped == [(str(photos.photos[2].path), "its features are not finite")]
    assert RegionStore.open(tmp_path / "out").ids == [photo.id for photo in photos.photos if photo.id != "photo 2.png"]


def test_a_photo_whose_pooled_vector_is_not_finite_is_skipped(tmp_path):
    class Odd(FakeDetector):
        def detect(self, photos):
            pooled = np.full(3, 1 if self.batches else np.inf, np.float16)
            return [replace(each, pooled=pooled) for each in super().detect(photos)]

    photos = make_photos(tmp_path / "photos", 3)
    report = extract(photos, Odd(), tmp_path / "out", batch_size=1)
    assert report.skipped == [(str(photos.photos[0].path), "its pooled vector is not finite")]
    assert len(RegionStore.open(tmp_path / "out")) == 2


def test_no_readable_photo_at_all_is_an_error_that_shows_one_reason(tmp_path):
    (tmp_path / "a.jpg").write_text("x")
    (tmp_path / "b.jpg").touch()
    photos = photos_of(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with pytest.raises(HANError, match=r"none of its 2 photos can be read; the first: .*a\.jpg: not an image"):
        extract(photos, FakeDetector(), tmp_path / "out")
    # ... and does not stand in the way of a better try.
    assert extract(make_photos(tmp_path / "ok", 2), FakeDetector("fake:2"), tmp_path / "out").done == 2


def test_a_photo_without_regions_is_skipped(tmp_path):
    class Blind(FakeDetector):
        def regions(self, pixels):
            found = super().regions(pixels)
            return found if pixels.sum() % 2 else Regions(found.features[:0], found.boxes[:0], 1, 1)

    photos = make_photos(tmp_path / "photos", 12)
    odd = sum(int(np.asarray(Image.open(photo.path), dtype=np.int64).sum()) % 2 for photo in photos.photos)
    assert 0 < odd < 12
    report = extract(photos, Blind(), tmp_path / "out")
    assert report.done == len(RegionStore.open(tmp_path / "out")) == odd
    assert {reason for _, reason in report.skipped} == {"the detector found no region"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_pixels_of_the_upright_photo(tmp_path, orientation):
    upright = Image.new("RGB", (40, 24))
    upright.paste((255, 0, 0), (30, 4, 38, 9))
    # How a camera that was held otherwise would have stored it.
    turn = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in turn.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    extract(photos_of(tmp_path / "photo.png"), FakeDetector(), tmp_path / "out")
    found = RegionStore.open(tmp_path / "out").read(["photo.png"])[0]
    assert (found.width, found.height) == (40, 24)
    assert found.boxes[0].tolist() == [30, 4, 38, 9]


def test_an_interrupt_keeps_what_was_detected(tmp_path):
    class Interrupted(FakeDetector):
        def detect(self, photos):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().detect(photos)

    photos = make_photos(tmp_path / "photos", 10)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), tmp_path / "out", batch_size=2)
    assert len(RegionStore.open(tmp_path / "out")) == 6
    report = extract(photos, FakeDetector(), tmp_path / "out", batch_size=2)
    assert (report.done, report.already_there) == (4, 6)
    extract(photos, FakeDetector(), tmp_path / "at once")
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")


def test_an_interrupt_leaves_in_the_list_the_photos_that_it_did_not_come_to(tmp_path):
    class Interrupted(FakeDetector):
        def detect(self, photos):
            raise KeyboardInterrupt

    good = make_photos(tmp_path, 3).photos
    first, last = tmp_path / "first.jpg", tmp_path / "last.jpg"
    first.touch()
    last.touch()
    photos = photos_of(first, *(photo.path for photo in good), last)
    extract(photos_of(first, good[0].path, last), FakeDetector(), tmp_path / "out")
    listed = (tmp_path / "out" / "skipped.jsonl").read_text()
    first.write_text("no photo")
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), tmp_path / "out", batch_size=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [line["photo"] for line in lines] == [str(first), str(last)]
    assert "not an image" in lines[0]["reason"]
    assert json.dumps(lines[1]) in listed


def test_features_of_another_detector_are_not_added_to(tmp_path):
    photos = make_photos(tmp_path / "photos", 4)
    extract(photos.only([photos.photos[0].id]), FakeDetector("fake:1"), tmp_path / "out")
    with pytest.raises(HANError, match="'fake:1', not by 'fake:2'"):
        extract(photos, FakeDetector("fake:2"), tmp_path / "out")
    assert len(RegionStore.open(tmp_path / "out")) == 1


def test_a_second_run_at_once_is_refused(tmp_path):
    photos = make_photos(tmp_path / "photos", 4)

    class Waiting(FakeDetector):
        def __init__(self):
            super().__init__()
            self.begun, self.go_on = threading.Event(), threading.Event()

        def detect(self, photos):
            self.begun.set()
            assert self.go_on.wait(30)
            return super().detect(photos)

    detector = Waiting()
    first = threading.Thread(target=extract, args=(photos, detector, tmp_path / "out"))
    first.start()
    assert detector.begun.wait(30)
    with pytest.raises(HANError, match="is writing to it"):
        extract(photos, FakeDetector(), tmp_path / "out")
    detector.go_on.set()
    first.join()
    assert len(RegionStore.open(tmp_path / "out")) == 4


def test_photos_are_decoded_while_the_detector_works_but_not_far_ahead(tmp_path, monkeypatch):
    import sys

    module = sys.modules["han_retrieval.regions.extraction"]
    opened = []
    open_photo = module.open_photo
    monkeypatch.setattr(
        module, "open_photo", lambda path, **options: opened.append(path) or open_photo(path, **options)
    )

    class Slow(FakeDetector):
        ahead: list[int]

        def detect(self, photos):
            done = sum(self.batches) + len(photos)
            deadline = time.monotonic() + 10
            while len(opened) < min(done + 4, 20) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)  # in which no further one is opened
            self.ahead.append(len(opened) - done)
            return super().detect(photos)

    detector = Slow()
    detector.ahead = []
    extract(make_photos(tmp_path / "photos", 20), detector, tmp_path / "out", batch_size=4)
    assert detector.ahead == [4, 4, 4, 4, 0]


def test_progress_goes_to_stderr(tmp_path, capsys):
    photos = make_photos(tmp_path / "photos", 3)
    extract(photos, FakeDetector(), tmp_path / "out", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err
    assert "photos/s" in captured.err
    extract(photos, FakeDetector(), tmp_path / "out", progress=True)
    assert capsys.readouterr().err == "", "with nothing to do there is no bar"


@pytest.mark.parametrize("threads", [1, 4])
def test_photos_inside_a_parquet_file_and_a_shard_give_what_their_files_give(tmp_path, threads):
    files = make_photos(tmp_path / "photos", 9)
    content = [photo.path.read_bytes() for photo in files.photos]
    names = [photo.path.name for photo in files.photos]
    columns = {"image": [{"bytes": each, "path": name} for each, name in zip(content, names, strict=True)]}
    parquet = write_parquet(tmp_path / "a.parquet", {**columns, "caption": [["x"]] * 9}, rows_a_group=4)
    members = [(name, each) for i in range(9) for name, each in ((f"{i}.png", content[i]), (f"{i}.txt", b"x"))]
    shard = write_shard(tmp_path / "a.tar", members)
    extract(files, FakeDetector(), tmp_path / "files")
    wanted = list(contents(tmp_path / "files").values())
    for source, out in ((parquet, tmp_path / "of parquet"), (shard, tmp_path / "of shard")):
        report = extract(read_dataset(source), FakeDetector(), out, batch_size=2, threads=threads)
        assert (report.done, report.skipped) == (9, [])
        assert list(contents(out).values()) == wanted
    assert sorted(tmp_path.iterdir()) == sorted(
        [tmp_path / "photos", tmp_path / "files", parquet, shard, tmp_path / "of parquet", tmp_path / "of shard"]
    )


def test_packed_photos_that_cannot_be_read_are_skipped_by_their_place(tmp_path):
    good = make_photos(tmp_path, 1).photos[0].path.read_bytes()
    columns = {"image": [{"bytes": each, "path": None} for each in (good, b"no photo", b"")], "caption": ["x"] * 3}
    parquet = write_parquet(tmp_path / "a.parquet", columns)
    report = extract(read_dataset(parquet), FakeDetector(), tmp_path / "out")
    assert report.done == 1
    assert report.skipped == [
        (f"{parquet}, row 1", "not an image that can be read"),
        (f"{parquet}, row 2", "its content is empty"),
    ]
    assert extract(read_dataset(parquet), FakeDetector(), tmp_path / "out").already_there == 1
