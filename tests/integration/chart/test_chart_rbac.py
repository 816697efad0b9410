"""The operator's rights as the API server sees them: what it needs, and none of what it must never have."""

from collections.abc import Callable

import pytest

from e2e.kubectl import Kubectl, RawObject

Can = Callable[..., bool]

NEEDED = [
    "get modelversions.modelfleet.dev",
    "list modelversions.modelfleet.dev",
    "watch modelversions.modelfleet.dev",
    "create modelversions.modelfleet.dev",
    "patch modelversions.modelfleet.dev --subresource=status",
    "list trainingjobs.modelfleet.dev",
    "watch trainingjobs.modelfleet.dev",
    "patch trainingjobs.modelfleet.dev --subresource=status",
    "list edgedeployments.modelfleet.dev",
    "watch edgedeployments.modelfleet.dev",
    "patch edgedeployments.modelfleet.dev --subresource=status",
    "create jobs.batch",
    "delete jobs.batch",
    "watch jobs.batch",
    "create daemonsets.apps",
    "patch daemonsets.apps",
    "delete daemonsets.apps",
    "create deployments.apps",
    "patch deployments.apps",
    "delete deployments.apps",
    "create controllerrevisions.apps",
    "delete controllerrevisions.apps",
    "create services",
    "patch services",
    "list virtualservices.networking.istio.io",
    "watch virtualservices.networking.istio.io",
    "create virtualservices.networking.istio.io",
    "patch virtualservices.networking.istio.io",
    "delete virtualservices.networking.istio.io",
    "patch destinationrules.networking.istio.io",
    "delete destinationrules.networking.istio.io",
    "patch peerauthentications.security.istio.io",
    "delete peerauthentications.security.istio.io",
    "watch httproutes.gateway.networking.k8s.io",
    "patch httproutes.gateway.networking.k8s.io",
    "delete httproutes.gateway.networking.k8s.io",
    "watch pods",
    # Those that a dead node keeps; a policy holds it to them.
    "delete pods",
    "delete trainingjobs.modelfleet.dev",
    "watch nodes",
    "patch nodes",
    "create events.events.k8s.io",
    "list events.events.k8s.io",
    "list workloads.kueue.x-k8s.io",
    "get customresourcedefinitions/edgedeployments.modelfleet.dev",
    # Who a training pod is that tells its progress.
    "create tokenreviews.authentication.k8s.io",
]

REFUSED = [
    # Secrets: credentials are mounted into pods by the kubelet; the operator never sees one.
    "get secrets",
    "list secrets",
    "watch secrets",
    "create secrets",
    # A way into pods, or a pod of one's own making beside the workload controllers.
    "create pods",
    "create pods --subresource=exec",
    "create pods --subresource=attach",
    "create pods --subresource=portforward",
    "create pods --subresource=ephemeralcontainers",
    "get pods --subresource=log",
    "patch pods",
    "create pods --subresource=eviction",
    # More rights, for itself or as somebody else.
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "create clusterroles.rbac.authorization.k8s.io",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "impersonate users",
    "impersonate groups",
    "impersonate serviceaccounts",
    "create serviceaccounts",
    "create serviceaccounts --subresource=token",
    "create subjectaccessreviews.authorization.k8s.io",
    "approve certificatesigningrequests.certificates.k8s.io",
    # The cluster itself.
    "create nodes",
    "delete nodes",
    "update nodes",
    "patch nodes --subresource=status",
    "get nodes --subresource=proxy",
    "create nodes --subresource=proxy",
    "create namespaces",
    "delete namespaces",
    "create customresourcedefinitions.apiextensions.k8s.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "delete customresourcedefinitions.apiextensions.k8s.io",
    "list customresourcedefinitions.apiextensions.k8s.io",
    "create validatingadmissionpolicies.admissionregistration.k8s.io",
    "delete validatingadmissionpolicies.admissionregistration.k8s.io",
    "delete validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "create validatingwebhookconfigurations.admissionregistration.k8s.io",
    "create mutatingwebhookconfigurations.admissionregistration.k8s.io",
    # The user's own objects: the operator writes their status only, and never takes them away.
    "update modelversions.modelfleet.dev",
    "patch modelversions.modelfleet.dev",
    "delete modelversions.modelfleet.dev",
    "patch trainingjobs.modelfleet.dev",
    "create trainingjobs.modelfleet.dev",
    "patch edgedeployments.modelfleet.dev",
    "delete edgedeployments.modelfleet.dev",
    "create edgedeployments.modelfleet.dev",
    # What is never changed once it was created.
    "patch jobs.batch",
    "update jobs.batch",
    "patch controllerrevisions.apps",
    # Of Istio and the Gateway API nothing but what routes requests.
    "create gateways.networking.istio.io",
    "patch gateways.networking.istio.io",
    "get envoyfilters.networking.istio.io",
    "create envoyfilters.networking.istio.io",
    "create authorizationpolicies.security.istio.io",
    "patch gateways.gateway.networking.k8s.io",
    "patch httproutes.gateway.networking.k8s.io --subresource=status",
    # Many at once.
    "deletecollection virtualservices.networking.istio.io",
    "deletecollection jobs.batch",
    "deletecollection pods",
    "deletecollection trainingjobs.modelfleet.dev",
    "deletecollection daemonsets.apps",
    "deletecollection services",
    # Things of others.
    "create statefulsets.apps",
    "create cronjobs.batch",
    "get configmaps",
    "create configmaps",
    "create persistentvolumeclaims",
    "patch workloads.kueue.x-k8s.io",
    "create networkpolicies.networking.k8s.io",
    "create endpointslices.discovery.k8s.io",
    "patch endpointslices.discovery.k8s.io",
]


def can_i(kubectl: Kubectl, question: str) -> bool:
    """Whether ``kubectl auth can-i`` answers yes; *no* is an exit code there, with nothing on stderr.

    A resource that does not exist would be refused as well and prove nothing; users and groups are RBAC's own words.
    """
    answer = kubectl("auth", "can-i", *question.split(), check=False).strip()
    assert not answer.startswith("error"), answer
    assert "doesn't have a resource type" not in answer or question.startswith("impersonate"), answer
    return answer == "yes"


@pytest.fixture
def can(chart_kubectl: Kubectl, routing_kinds: None, queueing_kinds: None, operator_user: str) -> Can:
    """Whether the operator may do a thing."""

    def ask(question: str, namespace: str = "default") -> bool:
        return can_i(chart_kubectl.within(namespace).impersonating(operator_user), question)

    return ask


@pytest.mark.parametrize("question", NEEDED)
def test_the_operator_may(can: Can, question: str) -> None:
    assert can(question)


@pytest.mark.parametrize("question", REFUSED)
def test_the_operator_may_not(can: Can, question: str) -> None:
    assert not can(question)
    assert not can(question, "kube-system")


def test_only_its_own_lease(can: Can, operator_namespace: str) -> None:
    """In its namespace, by name; the leases of others (nodes, the control plane) are out of its reach."""
    assert can("create leases.coordination.k8s.io", operator_namespace)
    assert can("update leases.coordination.k8s.io/modelfleet", operator_namespace)
    assert not can("update leases.coordination.k8s.io/another", operator_namespace)
    assert not can("get leases.coordination.k8s.io/kube-scheduler", "kube-system")
    assert not can("create leases.coordination.k8s.io", "kube-node-lease")


def test_only_its_own_certificate_and_endpoint(can: Can, operator_namespace: str) -> None:
    """By name, too; a Secret it may not create at all, since one of another type would hold somebody's token."""
    for resource in ("secrets", "endpointslices.discovery.k8s.io"):
        for verb in ("get", "patch"):
            assert can(f"{verb} {resource}/modelfleet-progress", operator_namespace)
            assert not can(f"{verb} {resource}/another", operator_namespace)
            assert not can(f"{verb} {resource}/modelfleet-progress", "kube-system")
        for verb in ("list", "watch", "delete", "update"):
            assert not can(f"{verb} {resource}", operator_namespace)
    assert can("create endpointslices.discovery.k8s.io", operator_namespace)
    assert not can("create secrets", operator_namespace)


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", ["list edgedeployments", "get modelversions"], ["create edgedeployments", "patch modelversions"]),
        (
            "trainer",
            ["create trainingjobs", "create modelversions", "get edgedeployments"],
            ["create edgedeployments", "patch edgedeployments", "patch trainingjobs --subresource=status"],
        ),
        (
            "deployer",
            ["create edgedeployments", "patch modelversions", "get trainingjobs"],
            ["create trainingjobs", "create modelversions", "delete modelversions"],
        ),
    ],
)
def test_user_roles(chart_kubectl: Kubectl, role: str, may: list[str], may_not: list[str]) -> None:
    """Each role for people, bound to a person in one namespace, gives its rights there and nowhere else."""
    person = f"{role}@plant.example"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{role}-person", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"modelfleet-{role}"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}],
    }
    chart_kubectl.apply(binding)

    def ask(question: str, namespace: str = "default") -> bool:
        verb, resource, *rest = question.split()
        words = " ".join([verb, f"{resource}.modelfleet.dev", *rest])
        return can_i(chart_kubectl.within(namespace).impersonating(person), words)

    assert all(ask(question) for question in may)
    assert not any(ask(question) for question in may_not)
    assert not any(ask(question, "kube-system") for question in may)


@pytest.mark.parametrize(
    ("built_in", "verbs"),
    [
        ("view", {"modelversions": set(), "trainingjobs": set(), "edgedeployments": set()}),
        ("edit", {"modelversions": {"create"}, "trainingjobs": {"create"}, "edgedeployments": {"create"}}),
        ("admin", {"modelversions": {"create"}, "trainingjobs": {"create"}, "edgedeployments": {"create"}}),
    ],
)
def test_roles_join_the_built_in_ones(chart_kubectl: Kubectl, built_in: str, verbs: dict[str, set[str]]) -> None:
    """The control plane's role aggregation has taken them up, and a viewer stays a viewer."""

    def has_all(role: RawObject) -> bool:
        return all(joined(role, resource) >= {"get", "list", "watch"} | wanted for resource, wanted in verbs.items())

    role = chart_kubectl.wait_for("clusterrole", built_in, has_all, timeout=180)
    if built_in == "view":
        assert all(joined(role, resource) == {"get", "list", "watch"} for resource in verbs)


def joined(role: RawObject, resource: str) -> set[str]:
    """The verbs that a role gives on a resource of ours."""
    rules = [rule for rule in role.get("rules") or [] if "modelfleet.dev" in rule.get("apiGroups", [])]
    return {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}
