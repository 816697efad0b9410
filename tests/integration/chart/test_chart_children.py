"""What the operator builds passes the policies that hold the operator: the two must not drift apart."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kubectl import Kubectl
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import edge_deployment, model_version, snapshot, workload
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Outcome

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
INSTALLATION = Installation("test/modelfleet", "modelfleet-system", "modelfleet/runtime:1")
EXAMPLE = Path(__file__).parents[3] / "examples" / "defect-inspection"
