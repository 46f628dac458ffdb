"""The attempts at a promotion on one test set, and what each may spend of the 5% for a false promotion.

`lstm-attempt/0123456789ab/3` records the third comparison on the test images whose MD5 begins with these digits. The
record is a git tag on the candidate's commit, with the figures as YAML in its message. GTO and DVC do not read it.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scmrepo.git import Git

from stages import params
from stages.errors import InputError
from stages.terminal import printable
from tools.runs import versions
from tools.runs.paired import SIGNIFICANCE, Paired, Verdict, one_sided
from tools.runs.versions import Version

BUDGET = 0.05  # of probability, for all false promotions on one test set together
HALF = 5  # attempts that spend half of it
LIMIT = 4_000  # bytes of a record
PREFIX = f"{versions.ARTIFACT}-attempt/"
NAME = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{12}}/([1-9][0-9]{{0,8}})")

Decision = Literal["promoted", "refused"]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]


class Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class OwnPictures(Record):
    """The comparison on own test pictures."""

    images: Count
    fixed: Count
    broken: Count
    p: Probability  # one-sided, that the candidate is better

    @classmethod
    def of(cls, own: Paired) -> Self:
        return cls(images=own.images, fixed=own.fixed, broken=own.broken, p=one_sided(own.fixed, own.broken))


class Attempt(Record):
    """A candidate compared with a stage's holder."""

    decision: Decision
    attempt: Annotated[int, Field(ge=1)]  # on this test set
    test_set: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]  # MD5
    stage: str
    candidate: str  # v1.1.0
    candidate_commit: Commit
    holder: str
    holder_commit: Commit
    images: Count
    fixed: Count
    broken: Count
    p: Probability  # one-sided, that the candidate is better
    alpha: Probability  # spent on each of the two tests: the largest p with which a promotion was possible
    own: OwnPictures | None = None
    date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\+00:00$")]

    @property
    def verdict(self) -> Verdict:
        """What the test images say of the candidate."""
        return judged(self.fixed, self.broken, self.alpha)

    @property
    def own_verdict(self) -> Verdict:
        """What own test pictures say of the candidate."""
        return judged(self.own.fixed, self.own.broken, self.alpha) if self.own else "inconclusive"

    @property
    def name(self) -> str:
        """Its tag."""
        return f"{_folder(self.test_set)}{self.attempt}"

    @property
    def message(self) -> str:
        return yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False)


def share_of(attempt: int) -> float:
    """Return how much of the budget an attempt may spend; the first k together spend k / (k + HALF) of it.

    The shares of all attempts add up to the budget, however many there are. The probability of one false promotion or
    more is at most the sum of the probabilities of each, whatever the attempts have in common (alpha-spending: J. Tian
    and A. Ramdas: Online control of the familywise error rate. Statistical Methods in Medical Research 30, 2021).
    """
    return BUDGET * HALF / ((attempt + HALF - 1) * (attempt + HALF))


def judged(fixed: int, broken: int, alpha: float) -> Verdict:
    """Say whether a candidate is proven better, at alpha, or worse, at `SIGNIFICANCE`."""
    if one_sided(fixed, broken) <= alpha:
        return "better"
    return "worse" if one_sided(broken, fixed) <= SIGNIFICANCE else "inconclusive"


def judge(
    paired: Paired,
    own: Paired | None,
    *,
    number: int,
    test_set: str,
    stage: str,
    candidate: Version,
    holder: Version,
) -> Attempt:
    """Decide on a candidate at the attempt with this number.

    The candidate is promoted if it is proven better on the test images or on own test pictures, and proven worse on
    neither. If there are both, each may spend half of the attempt's share.
    """
    alpha = share_of(number) / (2 if own else 1)
    verdicts = {judged(each.fixed, each.broken, alpha) for each in (paired, own) if each}
    return Attempt(
        decision="promoted" if "better" in verdicts and "worse" not in verdicts else "refused",
        attempt=number,
        test_set=test_set,
        stage=stage,
        candidate=candidate.name,
        candidate_commit=candidate.commit,
        holder=holder.name,
        holder_commit=holder.commit,
        images=paired.images,
        fixed=paired.fixed,
        broken=paired.broken,
        p=one_sided(paired.fixed, paired.broken),
        alpha=alpha,
        own=OwnPictures.of(own) if own else None,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def next_number(known: list[Attempt]) -> int:
    return max((attempt.attempt for attempt in known), default=0) + 1


def find(known: list[Attempt], candidate: Version, holder: Version) -> Attempt | None:
    """Find the attempt that compared these two."""
    pair = candidate.commit, holder.commit
    return next((each for each in known if (each.candidate_commit, each.holder_commit) == pair), None)


def check_same(recorded: Attempt, again: Attempt) -> None:
    """Raise `InputError` if a record is not what the two commits give."""
    for field in ("images", "fixed", "broken", "alpha", "own", "decision"):
        told, found = getattr(recorded, field), getattr(again, field)
        if told != found:
            # Own pictures are predicted again. Deleting a true record would give its share of the budget back.
            remedy = (
                "other packages or another processor may predict otherwise: run this where the record was made"
                if field == "own"
                else f"somebody made it by hand; if it is wrong, delete it: {versions.deletion(recorded.name)}"
            )
            raise InputError(
                f"{recorded.name}: {field} is {told}, but the commits of {again.candidate} and {again.holder} give "
                f"{found} here; {remedy}"
            )


def is_attempt(tag: str) -> bool:
    return NAME.fullmatch(tag) is not None


def _folder(test_set: str) -> str:
    return f"{PREFIX}{test_set[:12]}/"


def load(scm: Git, test_set: str) -> list[Attempt]:
    """Read the attempts on a test set, in order.

    Raises `InputError` for a tag that has the name of a record and is none.
    """
    fields = ("refname:strip=2", "objecttype", "taggername", "taggeremail", "contents")
    form = "".join(f"%({field})%00" for field in fields)
    printed = versions.git(scm, "for-each-ref", f"--format={form}", f"refs/tags/{_folder(test_set)}")
    texts = printed.split("\0")[:-1]
    found = []
    for name, kind, who, email, text in zip(*(texts[at :: len(fields)] for at in range(len(fields))), strict=True):
        if is_attempt(name := name.strip()):
            try:
                found.append(_parse(name, kind, text, test_set))
            except InputError as error:
                raise InputError(
                    f"{name}{f' (by {who} {email})' if who else ''}: expected the record of an attempt, found another "
                    f"tag: {error}; `git fetch --tags --force` brings the remote's tags; to delete this one: "
                    f"{versions.deletion(name)}"
                ) from None
    return sorted(found, key=lambda attempt: attempt.attempt)


def _parse(name: str, kind: str, text: str, test_set: str) -> Attempt:
    if kind != "tag":
        raise InputError("it is not annotated")
    try:
        attempt = Attempt.model_validate(params.parse(text.encode(), "its message", limit=LIMIT))
    except ValidationError as invalid:
        first = invalid.errors(include_input=False, include_url=False)[0]
        where = printable(".".join(map(str, first["loc"]))) or "the message"
        raise InputError(f"{where}: {first['msg']}") from None
    if attempt.name != name or attempt.test_set != test_set:
        raise InputError(f"it records attempt {attempt.attempt} on the test images {attempt.test_set}")
    return attempt
