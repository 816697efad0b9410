r"""Types that several kinds share: names, digests, URIs, references, conditions. What a pod takes is in ``pod.py``.

Every string, list and map is bounded: the API server multiplies the bounds into the cost of CEL rules, and an
object must stay far below etcd's limit. Patterns are written so that RE2 (the API server) and Rust's regex
(pydantic) read them alike: no ``\d``, ``\s`` or ``\w``, which differ beyond ASCII.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from modelfleet.api.rules import Contract, Rules, Unique, lacks, matches, number_or_matches

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
_PRERELEASE = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z]([-0-9A-Za-z]*[0-9A-Za-z])?|[0-9]+-[-0-9A-Za-z]*[0-9A-Za-z])"
VERSION_PATTERN = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    rf"(-{_PRERELEASE}(\.{_PRERELEASE})*)?$"
)
_HOST = r"[!-.0-Z\\^-~]"
"""A character of what stands before a URL's path; brackets are for IPv6 addresses alone."""
_ADDRESS = r"\[[0-9A-Fa-f:.]+\]"
PASSWORD_PATTERN = r"^[A-Za-z0-9+.-]+://[^/]*:[^/]*@"  # noqa: S105 (finds passwords, is none)

ObjectName = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=63)]
ShortName = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=30)]
SecretName = Annotated[str, Field(pattern=SUBDOMAIN_PATTERN, max_length=253)]
ModelName = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=40)]
Version = Annotated[
    str,
    Field(max_length=32),
    Rules(
        matches(
            VERSION_PATTERN,
            "must be a SemVer 2 version without build metadata, such as 1.4.0 or 1.4.0-rc.1; the parts of its"
            " pre-release begin and end with a letter or digit",
        )
    ),
]
"""SemVer 2, less what could not be a part of an object's name."""
Sha256 = Annotated[
    str, Field(max_length=64), Rules(matches(r"^[0-9a-f]{64}$", "must be a SHA-256: 64 lower-case hexadecimal digits"))
]
PrefixedSha256 = Annotated[
    str,
    Field(max_length=71),
    Rules(matches(r"^sha256:[0-9a-f]{64}$", "must be sha256: and a SHA-256 of 64 lower-case hexadecimal digits")),
]
Commit = Annotated[
    str,
    Field(max_length=64),
    Rules(
        matches(
            r"^([0-9a-f]{40}|[0-9a-f]{64})$",
            "must be a full commit hash, 40 or 64 lower-case hexadecimal digits: a branch or short hash can move",
        )
    ),
]
Decimal = Annotated[
    str,
    Field(max_length=32),
    Rules(matches(r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$", "must be a decimal number as text, such as '0.943'")),
]
Amount = Annotated[
    str,
    Field(max_length=32),
    Rules(
        matches(
            r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$",
            "must be a decimal number as text that is not negative, such as '0.005'",
        )
    ),
]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][-A-Za-z0-9_.]*$", max_length=63)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Message = Annotated[str, Field(max_length=1024)]

_no_password = lacks(PASSWORD_PATTERN, "must not carry a password: put credentials into a Secret and name that")
StoreUri = Annotated[
    str,
    Field(max_length=2048),
    Rules(
        matches(
            rf"^(https?|s3|gs|abfs|hf|file)://(({_HOST}+|{_HOST}*{_ADDRESS}(:[0-9]+)?)(/[!-~]*)?|/[!-~]+)$",
            "must be an http, https, s3, gs, abfs, hf or file URL, such as s3://models/defect/int8.onnx",
        ),
        lacks(
            r"^hf://(/|buckets/|((datasets|spaces)/)?[^/]*/?$)",
            "must name a repository of the Hub by its owner and name, such as hf://org/backbone",
        ),
        _no_password,
    ),
]
REPOSITORY_PATTERN = r"^hf://((datasets|spaces)/)?[^/]+/[^/]+/?$"
"""A repository of the Hub as a whole."""
FileUri = Annotated[
    StoreUri,
    Rules(lacks(REPOSITORY_PATTERN, "must name one file of the repository, such as hf://org/backbone/int8.onnx")),
]
WritableStoreUri = Annotated[
    str,
    Field(max_length=2048),
    Rules(
        matches(
            rf"^(s3|gs|abfs)://{_HOST}+(/[!-~]*)?$",
            "must be a folder that can be written, as an s3, gs or abfs URL such as s3://models/defect",
        ),
        _no_password,
    ),
]
RepositoryUri = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=2048), Rules(_no_password)]

GitUrl = Annotated[
    str,
    Field(max_length=2048),
    Rules(
        matches(
            # Of ssh://git@git.example:vision/defect, which mixes the two ways to write it, the port is no number.
            rf"^(https?|ssh)://([!-.0-?A-Z\\^-~]*@)?([A-Za-z0-9_][-A-Za-z0-9_.]*|{_ADDRESS})(:[0-9]{{1,5}})?(/[!-~]*)?$",
            "must be an https, http or ssh URL, such as https://git.example/vision/defect or"
            " ssh://git@git.example/vision/defect (for git@git.example:vision/defect)",
        ),
        _no_password,
    ),
]
GitRevision = Annotated[
    str,
    Field(max_length=255),
    Rules(
        matches(
            r"^[A-Za-z0-9_][-A-Za-z0-9_.+@/#]*$",
            "must be a branch, a tag or a full commit hash; a branch's name begins with a letter, digit or underscore",
        ),
        lacks(r"[.][.]|//|@[{]|[.]lock(/|$)|/[.]|[/.]$", "must be a name that Git allows for a branch or tag"),
    ),
]
RemoteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$", max_length=63)]
FolderPath = Annotated[
    str,
    Field(max_length=255),
    Rules(
        matches(
            r"^[A-Za-z0-9_.][-A-Za-z0-9_.+@]*(/[A-Za-z0-9_.][-A-Za-z0-9_.+@]*)*$",
            "must be a folder of the repository, such as models/defect: no slash at its ends; letters, digits, -_.+@",
        ),
        lacks(r"(^|/)[.][.]?(/|$)", "must not have . or .. as a part: give the folder itself, or leave path out"),
    ),
]

CountOrPercent = Annotated[
    int | Annotated[str, Field(max_length=4)],
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 4}),
    Rules(
        number_or_matches(
            1,
            100_000,
            r"^([1-9]|[1-9][0-9]|100)%$",
            "must be a number from 1 to 100000, or a percentage from 1% to 100% as text, such as 25%",
        )
    ),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


def version_object_name(model: str, version: str) -> str:
    """The name that the ModelVersion of this model and version must have."""
    return f"{model}-{version.lower().replace('.', '-')}"


class SecretReference(Contract):
    """A Secret in the same namespace."""

    name: SecretName
    """Name of the Secret."""


class Metadata(Contract):
    """What the contract needs of an object's metadata; the rest is Kubernetes' own."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """Name of the object."""


class ConditionStatus(Contract):
    """One condition, as the Kubernetes API conventions have it."""

    type: Annotated[str, Field(max_length=64)]
    """Type of the condition, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=128)]
    """Why, as one CamelCase word that does not change between releases."""
    message: Message = ""
    """Why, for a person: the field or object it is about, and the remedy."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """metadata.generation that it speaks of."""
    last_transition_time: Timestamp
    """When its status last changed."""


Conditions = Annotated[list[ConditionStatus], Field(max_length=16), Unique("type")]
