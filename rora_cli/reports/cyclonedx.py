"""CycloneDX 1.6: a bill of materials of checked checkpoints (ML-BOM), by the maintained cyclonedx-python-lib.

Each checkpoint is a machine-learning model with its files and their sha256; findings stand as vulnerabilities of what
they are about. The library is an optional part: ``pip install 'rora-cli[bom]'``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rora_cli.reports.subjects import subjects
from rora_cli.reports.text import safe
from rora_cli.results.check import CheckedCheckpoint, CheckResult
from rora_cli.results.findings import Finding, Severity

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.vulnerability import Vulnerability


def render(result: CheckResult) -> str:
    """The bill of materials as JSON.

    Raises ModuleNotFoundError where cyclonedx-python-lib is not installed.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    bom = Bom()
    version = str(result.provenance.versions.get("rora", ""))
    bom.metadata.tools.components.add(Component(name="rora", type=ComponentType.APPLICATION, version=version))
    commits = result.provenance.config.get("commits") or {}
    for number, (checkpoint, subject) in enumerate(zip(result.checkpoints, subjects(result), strict=True)):
        model = _model(checkpoint, f"checkpoint-{number}", commits)
        bom.components.add(model)
        for place, finding in enumerate(f for f in checkpoint.findings if f.severity > Severity.INFO):
            about = f"checkpoint-{number}/{subject.file(finding)}"
            known = {str(part.bom_ref.value) for part in model.components}
            bom.vulnerabilities.add(_finding(finding, f"finding-{number}-{place}", about if about in known else model))
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    return text


def _model(checkpoint: CheckedCheckpoint, ref: str, commits: Mapping[str, str]) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    files = [
        Component(
            name=safe(name, max_length=400),
            type=ComponentType.FILE,
            bom_ref=f"{ref}/{name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            properties=[Property(name="rora:state", value=checkpoint.inventory.get(name, ""))],
        )
        for name, digest in checkpoint.sha256.items()
    ]
    return Component(
        name=safe(checkpoint.path, max_length=400),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=ref,
        version=commits.get(checkpoint.path),
        components=files,
        properties=[Property(name=f"rora:{name}", value=value) for name, value in _facts(checkpoint)],
    )


def _facts(checkpoint: CheckedCheckpoint) -> Iterator[tuple[str, str]]:
    """What the headers tell, and whether all was read."""
    yield "role", checkpoint.role
    yield "parameters", str(checkpoint.parameters)
    yield "tensors", str(checkpoint.tensors)
    yield "types", ", ".join(f"{number} {dtype}" for dtype, number in checkpoint.dtypes.items())
    yield "values-read", str(checkpoint.values_read).lower()
    for name in checkpoint.unreadable:
        yield "not-analysed", safe(name, max_length=400)


def _finding(finding: Finding, ref: str, about: str | Component) -> Vulnerability:
    from cyclonedx.model.vulnerability import (
        BomTarget,
        Vulnerability,
        VulnerabilityRating,
        VulnerabilityScoreSource,
        VulnerabilitySeverity,
        VulnerabilitySource,
    )

    target = about if isinstance(about, str) else str(about.bom_ref.value)
    return Vulnerability(
        bom_ref=ref,
        id=finding.rule_id,
        source=VulnerabilitySource(name="rora"),
        description=safe(finding.message, max_length=2000),
        recommendation=safe(finding.advice, max_length=1000) if finding.advice else None,
        ratings=[
            VulnerabilityRating(
                severity=VulnerabilitySeverity(finding.severity.label), method=VulnerabilityScoreSource.OTHER
            )
        ],
        affects=[BomTarget(ref=target)],
    )
