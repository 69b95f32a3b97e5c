"""Copies of prepared datasets in buckets, each of whose files is compared with the original."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from data_pipelines.records.clips import INFO, prepared_folder
from data_pipelines.records.licences import FILE as LICENCE
from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import is_url
from rvm_jax.host.progress import Progress


def refuse_unreachable(names: Collection[str], url: str) -> None:
    """Refuse a bucket that cannot be read, before hours are spent on what is to be copied to it."""
    if not is_url(url):
        raise InputError(f"--copy-to {url}: expected gs://BUCKET/… or s3://BUCKET/…; a path is given as --data-dir")
    for name in names:
        buckets.list_files(buckets.join(url, name))


def upload(dataset: str, data_dir: Path, url: str, *, overwrite: bool) -> str:
    """Copy a prepared dataset to below `url`; returns a line about it.

    What is there and equal stays, so that an interrupted copy goes on. The file that makes a dataset of the others
    comes last, when all of them are seen to be equal.
    """
    folder = prepared_folder(dataset, data_dir)
    assert isinstance(folder, Path)
    target = f"{url.rstrip('/')}/{dataset}/{folder.name}"
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    there = buckets.stored_files(target)
    left = _different(folder, sizes, target, there)
    if not left:
        return f"{dataset} was in {target} already"
    if INFO in there and not overwrite and any(name.endswith(".json") for name in left if name != LICENCE):
        raise InputError(
            f"{target} holds another dataset, or a damaged one: remove it there, give another --copy-to, or --force, "
            "which builds anew and replaces it"
        )
    buckets.remove(target, [INFO])
    total, sent = sum(sizes.values()), sum(size for name, size in sizes.items() if name not in left)
    with Progress(f"copying {dataset}", "MB", total // 10**6, reused=sent // 10**6) as progress:

        def done(name: str) -> None:
            nonlocal sent
            sent += sizes[name]
            progress.update(sent // 10**6)

        for names in ([name for name in left if name != INFO], [INFO]):
            buckets.upload(folder, target, names, done)
            _check(folder, {name: sizes[name] for name in names}, target)
    buckets.remove(target, there.keys() - sizes.keys())
    return f"{dataset}: copied {len(left)} files, {sum(sizes[name] for name in left) / 1e9:.2f} GB, to {target}"


def _check(folder: Path, sizes: Mapping[str, int], target: str) -> None:
    different = _different(folder, sizes, target, buckets.stored_files(target))
    if different:
        raise InputError(f"{target}/{different[0]} is not what was copied there: give the same command again")


def _different(
    folder: Path, sizes: Mapping[str, int], target: str, there: Mapping[str, buckets.StoredFile]
) -> list[str]:
    """The files that the bucket does not have as they are here."""

    def same(name: str) -> bool:
        if name not in there or there[name].size != sizes[name]:
            return False
        with (folder / name).open("rb") as file:
            ours = hashlib.file_digest(file, "md5").digest()
        return ours == (there[name].md5 or buckets.md5(f"{target}/{name}"))

    return [name for name in sorted(sizes) if not same(name)]
