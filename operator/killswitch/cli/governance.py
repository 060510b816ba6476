"""`govern` and `bypass`: where the lock applies, and who suspends a policy for a while."""

from datetime import UTC, datetime

from killswitch.cli import board, kernel
from killswitch.cli.connect import Session
from killswitch.cli.creating import object_name
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import PROGRAM, Problem
from killswitch.cli.screen import Screen, Span, Tone
from killswitch.core import durations, times
from killswitch.core.names import GOVERNED_LABEL, PROTECTED_NAMESPACES
from killswitch.core.resources import BYPASSES, NAMESPACES, POLICIES


async def govern(session: Session, screen: Screen, namespace: str) -> ExitCode:
    """Set the label; saying so where it is set already."""
    if namespace in PROTECTED_NAMESPACES:
        why = "it is protected: a lock there could stop the cluster itself, or the way back"
        raise Problem(f"govern namespace {namespace}", why, "keep model servers elsewhere")
    body = await session.cluster.get(NAMESPACES, namespace)
    if lacking := await kernel.lacking(session.cluster):
        why = f"{lacking}: the label would promise a lock that does not apply. Nothing was changed"
        cure = f"install killswitch (helm install killswitch …), then: {PROGRAM} govern {namespace}"
        raise Problem(f"govern namespace {namespace}", why, cure)
    if (body["metadata"].get("labels") or {}).get(GOVERNED_LABEL) == "true":
        screen.line(f"Namespace {namespace} is governed already.")
    else:
        change = {"metadata": {"labels": {GOVERNED_LABEL: "true"}}}
        await session.cluster.patch(NAMESPACES, namespace, change)
        screen.line(
            Span("Governed", Tone.GOOD), f": namespace {namespace}; the lock applies there."
        )
    screen.answer({"namespace": namespace, "governed": True}, f"namespace/{namespace}")
    return ExitCode.OK


async def bypass(
    session: Session, screen: Screen, policy: str, reason: str, length: str
) -> ExitCode:
    """Suspend a policy until now plus `length`."""
    await session.cluster.get(POLICIES, policy, session.namespace)
    me, now = await session.cluster.whoami(), session.clock.now()
    until = datetime.fromtimestamp(now + durations.seconds(length), UTC)
    body = {
        "apiVersion": BYPASSES.api_version,
        "kind": BYPASSES.kind,
        "metadata": {"name": object_name(me, now), "namespace": session.namespace},
        "spec": {
            "policy": policy,
            "requestedBy": me,
            "reason": reason,
            "until": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }
    made = await session.cluster.create(BYPASSES, body, session.namespace)
    name = made["metadata"]["name"]
    said = f": policy {policy} does not act until {made['spec']['until']}. It ends by itself."
    screen.line(Span("Bypassed", Tone.WARN), said)
    screen.line(f"Next: end it earlier: {PROGRAM} bypass end {name} -n {session.namespace}")
    screen.answer({"name": name, **made["spec"]}, f"bypass.{BYPASSES.group}/{name}")
    return ExitCode.OK


async def bypasses(session: Session, screen: Screen, *, everywhere: bool) -> ExitCode:
    """All bypasses, those in force first in words and tone."""
    place = "" if everywhere else session.namespace
    now = session.clock.now()
    items = (await session.cluster.list(BYPASSES, place)).items
    rows = []
    for each in items:
        spec = each["spec"]
        active = times.seconds(spec["until"]) > now
        standing = Span("IN FORCE", Tone.WARN) if active else Span("ended", Tone.DIM)
        name, until = each["metadata"]["name"], spec["until"]
        rows.append(
            (
                board.place(each),
                name,
                standing,
                spec["policy"],
                until,
                spec["requestedBy"],
                spec["reason"],
            )
        )
    screen.table(("NAMESPACE", "BYPASS", "STANDING", "POLICY", "UNTIL", "BY", "REASON"), rows)
    if not rows:
        screen.line("No bypass: every policy counts.")
    answer = [{"name": each["metadata"]["name"], **each["spec"]} for each in items]
    screen.answer({"bypasses": answer}, [f"bypass.{BYPASSES.group}/{e['name']}" for e in answer])
    return ExitCode.OK


async def end(session: Session, screen: Screen, name: str) -> ExitCode:
    """Delete a bypass: the policy counts again at once."""
    found = await session.cluster.get(BYPASSES, name, session.namespace)
    await session.cluster.delete(BYPASSES, name, session.namespace)
    screen.line(Span("Ended", Tone.GOOD), f": policy {found['spec']['policy']} counts again.")
    screen.answer({"name": name, "ended": True}, f"bypass.{BYPASSES.group}/{name}")
    return ExitCode.OK
