"""A written release -> the Hub, through huggingface_hub: one commit in each repository."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.errors import RunFailed, UserError
from selfalign.release.release import Release

TARGET = "hub:"
STALE = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "data/*")
"""What an earlier release may have left in a repository: beside this one's files they would be loaded too."""


class Repositories(NamedTuple):
    """The Hub ids of a release's two parts."""

    model: str
    dataset: str


def repositories(target: str) -> Repositories:
    """`hub:OWNER/NAME` -> OWNER/NAME for the model, OWNER/NAME-data for the data set."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = target.removeprefix(TARGET)
    try:
        validate_repo_id(f"{name}-data")
        if name.count("/") != 1:
            raise HFValidationError(name)
    except HFValidationError as fault:
        raise UserError(
            f"--to {target!r} is not hub:OWNER/NAME", "selfalign release RUN --to hub:OWNER/NAME"
        ) from fault
    return Repositories(name, f"{name}-data")


def upload(release: Release, folder: Path, repos: Repositories, private: bool) -> list[str]:
    """Create what is missing and commit, repository by repository. Gives the URLs.

    Raises RunFailed with one line: no token, no right to write, no network, a card that the Hub refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if not get_token():
        raise UserError("there is no Hub token here", "hf auth login, or set HF_TOKEN to one that may write")
    (enable_progress_bars if sys.stderr.isatty() else disable_progress_bars)()
    api = HfApi()
    return [
        commit(api, repo, part, folder / part, release.part(part), private)
        for part, repo in destinations(release, repos).items()
    ]


def destinations(release: Release, repos: Repositories) -> dict[str, str]:
    """Part -> Hub id, of the parts that there are; the data set first, since the model's card names it."""
    places = {"dataset": repos.dataset, "model": repos.model}
    return {part: repo for part, repo in places.items() if release.part(part)}


def commit(api: Any, repo: str, kind: str, folder: Path, names: list[str], private: bool) -> str:
    """One commit of exactly these files; weights and rows of an earlier release go in the same commit.

    `upload_folder` is not used: where hf_xet is installed it makes several commits, and half a release could stay.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    try:
        url = api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        info = api.repo_info(repo, repo_type=kind)
        if private and not info.private:
            raise RunFailed(
                f"{repo} exists and is public: not uploaded", "name another repository, or leave --private out"
            )
        operations = [CommitOperationAdd(name, str(folder / name)) for name in names]
        gone = [CommitOperationDelete(name) for name in stale(info, names)]
        api.create_commit(repo, [*operations, *gone], commit_message="Release by selfalign", repo_type=kind)
    except UserError:
        raise
    except Exception as fault:
        raise refusal(fault, repo) from fault
    return str(url)


def stale(info: Any, names: list[str]) -> list[str]:
    """Files of an earlier release that this one does not replace; whatever else the owner put there stays."""
    there = [sibling.rfilename for sibling in info.siblings or []]
    return [name for name in there if name not in names and any(fnmatch.fnmatchcase(name, part) for part in STALE)]


def refusal(fault: Exception, repo: str) -> Exception:
    """One line for what the Hub or the network says; a fault of ours stays as it is. No message holds a token."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    again = "run the same command again: it goes on where it stopped"
    if isinstance(fault, OfflineModeIsEnabled):
        return RunFailed(f"cannot upload to {repo}: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
    if isinstance(fault, HfHubHTTPError):
        code = fault.response.status_code
        if code in (401, 403):
            return RunFailed(
                f"the Hub refuses to write to {repo} (HTTP {code}): the token is not valid there, or may only read",
                "hf auth whoami; make a token that may write to that owner's repositories",
            )
        return RunFailed(f"the Hub refuses {repo} (HTTP {code}): {fault.server_message or type(fault).__name__}", again)
    if isinstance(fault, httpx2.HTTPError | OSError):
        return RunFailed(f"cannot reach the Hub for {repo}: {type(fault).__name__}", f"check the network; {again}")
    if isinstance(fault, ValueError):
        return RunFailed(f"the Hub refuses {repo}: {' '.join(str(fault).split())[:300]}", again)
    return fault
