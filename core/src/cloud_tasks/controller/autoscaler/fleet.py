"""The instances of one job: launches, called in other threads and recorded here, besides what `InstanceCalls` does.

Invariants, each with a test:

1. An intent with its client token is committed before its launch is called.
2. A launch of unknown outcome keeps its intent until a complete listing settles it: it may have succeeded. A launch
   that certainly failed keeps none, and withdraws the launches that wait behind it.
3. A refusal blocks its scope (`RefusedScopes`), and withdraws waiting launches in that scope. Credentials that are
   refused block all launches, never an instance type or a zone.
4. An intent counts at the price of the most expensive offer that the provider may select, until the launch is answered.
5. A launch is called only for a while after a decision: this machine may have been asleep since, and another controller
   have started instances. It then waits for the next decision, which counts it.
6. A launch counts from its call, however long it waited: its intent is renewed until then, and before the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs
import structlog

from cloud_tasks.controller.autoscaler.instance_calls import InstanceCalls
from cloud_tasks.controller.autoscaler.launch_orders import LaunchOrder, LaunchWave, new_token
from cloud_tasks.controller.autoscaler.refused_scopes import CREDENTIALS
from cloud_tasks.controller.autoscaler.state import LaunchFailures
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, call, sleep, start
from cloud_tasks.errors import (
    CloudTasksError,
    CredentialsError,
    InputError,
    LaunchFailedError,
    LaunchRefusedError,
    ProviderError,
    RefusalScope,
)
from cloud_tasks.model import Instance, InstanceState, LaunchRequest
from cloud_tasks.plugin import Compute
from cloud_tasks.quantities import format_span
from cloud_tasks.sanitize import clean_text
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

__all__ = ["Fleet"]

log = structlog.get_logger()

_MAX_ATTEMPTS = 3
_BACKOFF = timedelta(seconds=2)
_CREDENTIALS_DELAY = timedelta(minutes=1)
_REPORTED_SKEW = timedelta(seconds=30)
_REASON_LENGTH = 200
_MAX_AGE = timedelta(minutes=10)
"""Time after a decision in which launches are called."""
_RENEWAL = timedelta(seconds=30)
"""Age of an intent that is renewed."""


class Fleet(InstanceCalls):
    """Operations on the instances of a job.

    Args:
        compose: Return the launch request for an offer, its alternatives, a client token and a lifetime.
        finish: Return a request as it is sent; its errors are those of the launch call. Called from threads.
        max_parallel: Maximum number of launch calls at a time.
        on_refused: Called after a launch was refused.
        own_end: Time after its deadline by which an instance has certainly ended itself; None: unknown.
        writes: Changes to the store; own ones by default.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        compute: Compute,
        *,
        job_id: str,
        compose: Callable[[RankedOffer, Sequence[RankedOffer], str, timedelta | None], LaunchRequest],
        max_parallel: int,
        on_refused: Callable[[], None],
        finish: Callable[[LaunchRequest], LaunchRequest] = lambda request: request,
        own_end: timedelta | None = None,
        writes: DeferredWrites | None = None,
    ) -> None:
        super().__init__(loop, store, compute, job_id=job_id, writes=writes or DeferredWrites(loop, store))
        self._compose = compose
        self._finish = finish
        self._max_parallel = max_parallel
        self._own_end = own_end
        self._on_refused = on_refused
        self._waiting: dict[str, LaunchOrder] = {}
        """By client token, in the order of the requests."""
        self._decided_at = loop.now()
        """Time of the last decision that counted the waiting launches."""
        self._launching: dict[str, LaunchOrder] = {}
        self._unknown: dict[str, tuple[LaunchOrder, Exception]] = {}
        """Launches of unknown outcome, with their error."""
        self._failures: LaunchFailures | None = None
        self._failed_at: datetime | None = None
        self._answered_at: dict[str, datetime] = {}
        self._wave = LaunchWave()
        self._is_skew_reported = False

    def is_unanswered(self, client_token: str) -> bool:
        """Return whether this launch waits or is being called."""
        return client_token in self._launching or client_token in self._waiting

    @property
    def busy(self) -> bool:
        """Whether launches wait or are being called."""
        return bool(self._launching or self._waiting)

    def launch_failures(self) -> LaunchFailures | None:
        """Return the certain failures since the last successful launch; None if there are none."""
        return self._failures

    def launch(
        self,
        ranked: RankedOffer,
        count: int,
        alternatives: Sequence[RankedOffer] = (),
        *,
        lifetime: timedelta | None = None,
    ) -> None:
        """Commit ``count`` intents, then launch as many at a time as is allowed; none while the store is unavailable.

        Args:
            alternatives: Offers of which the provider may select one instead.
            lifetime: Time after which each instance ends itself; None: never.
        """
        requests = [self._compose(ranked, alternatives, new_token(), lifetime) for _ in range(count)]
        now = self._loop.now()

        def record_intents() -> None:
            self._store.record_intents(requests, now, slots=ranked.slots, own_end=self._own_end)

        if not self._writes.attempt(record_intents):
            return
        if not self.busy:
            self._wave = LaunchWave()
        self._wave.requested += count
        self._decided_at = now
        self._waiting.update(
            (request.client_token, LaunchOrder(ranked=ranked, request=request, ordered_at=now)) for request in requests
        )
        self._dispatch()

    def confirm(self) -> None:
        """Note that a decision from a listing has counted the waiting launches, and call what it held up."""
        self._decided_at = self._loop.now()
        self._renew(tuple(self._waiting))
        self._dispatch()

    def _renew(self, tokens: Sequence[str]) -> bool:
        """Renew the intents of waiting launches; return False where they cannot be recorded."""
        now = self._loop.now()
        old = [token for token in tokens if now - self._waiting[token].ordered_at > _RENEWAL]
        if old and not self._writes.attempt(lambda: self._store.renew_intents(old, now)):
            return False
        self._waiting.update({token: attrs.evolve(self._waiting[token], ordered_at=now) for token in old})
        return True

    def _is_outdated(self) -> bool:
        return self._loop.now() - self._decided_at > _MAX_AGE

    def _dispatch(self) -> None:
        while self._waiting and len(self._launching) < self._max_parallel and not self._is_outdated():
            token = next(iter(self._waiting))
            if not self._renew([token]):
                return
            order = attrs.evolve(self._waiting.pop(token), called_at=self._loop.now())
            self._launching[token] = order
            start(self._launch(order))

    async def _launch(self, order: LaunchOrder) -> None:
        """Launch one instance: retry transient errors, and settle the order by the answer."""
        attempt, request = 0, None

        def launch() -> Instance:
            nonlocal request
            # Repetitions are the same request: providers compare what they get for one token.
            request = request or self._finish(order.request)
            return self._compute.launch(request)

        while True:
            attempt += 1
            try:
                instance = await call(self._loop, launch)
            except LaunchRefusedError as error:
                return self._refused(order, error)
            except Exception as error:
                # After an unanswered attempt, a failure is not certain.
                if attempt == 1 and isinstance(error, CredentialsError):
                    return self._refused(order, _refused_credentials(error))
                if attempt == 1 and isinstance(error, (LaunchFailedError, InputError)):
                    return self._failed(order, error)
                if attempt >= _MAX_ATTEMPTS or not _is_transient(error):
                    return self._unanswered(order, error)
                await sleep(self._loop, _BACKOFF * attempt)
                if self._is_outdated():
                    return self._unanswered(order, error)
            else:
                if attempt == 1:
                    self._note_clock(order, instance)
                return self._launched(order, instance)

    def _note_clock(self, order: LaunchOrder, instance: Instance) -> None:
        """Report once that the provider's clock differs: it created the instance between our call and its answer."""
        created, called = instance.created_at, order.called_at or order.ordered_at
        skew = max(created - self._loop.now(), called - created)
        if skew >= _REPORTED_SKEW and not self._is_skew_reported:
            self._is_skew_reported = True
            where = "ahead of" if created > called else "behind"
            text = f"The clock of the provider is {format_span(skew)} {where} that of this machine"
            log.warning(f"{text}; costs are measured by this machine's clock")

    def answered_at(self, client_token: str) -> datetime | None:
        """Return when this launch succeeded or its outcome became unknown; None for a launch of an earlier run."""
        return self._answered_at.get(client_token)

    def _launched(self, order: LaunchOrder, instance: Instance) -> None:
        self._answered_at[order.token] = now = self._loop.now()
        self._launching.pop(order.token)
        self._writes.submit(lambda: self._store.record_launched(order.token, instance, order.called_at, now))
        self._failures = None
        self.refused_scopes.launched()
        text = f"{instance.provisioning_model.value} instance '{instance.instance_id}' in zone '{instance.zone}'"
        if instance.state is InstanceState.PENDING:
            reason = f" ({clean_text(instance.reason, _REASON_LENGTH)})" if instance.reason else ""
            log.info(f"Requested {text}; it is pending{reason}")
            self._wave.not_started["pending"] += 1
        else:
            log.info(f"Started {text}")
            self._wave.started += 1
        self._settle()

    def _refused(self, order: LaunchOrder, error: LaunchRefusedError) -> None:
        self._launching.pop(order.token)
        self.record_launch_failed(order.token, error.reason)
        self._wave.not_started["refused"] += 1
        self._block(order.request, error)
        self._settle()
        self._on_refused()

    def _unanswered(self, order: LaunchOrder, error: Exception) -> None:
        self._answered_at[order.token] = self._loop.now()
        self._unknown[order.token] = (self._launching.pop(order.token), error)
        self._wave.not_started["of unknown outcome"] += 1
        log.warning(f"Outcome of a launch unknown until the next complete listing: {_text(error)}")
        self._settle()

    def _failed(self, order: LaunchOrder, error: Exception) -> None:
        self._launching.pop(order.token)
        self._wave.not_started["failed"] += 1
        self._record_failure(order, error)
        self._settle()

    def _record_failure(self, order: LaunchOrder, error: Exception) -> None:
        """Record a launch that started nothing. No other offer would help, so waiting launches are withdrawn."""
        message = _text(error)
        name = order.ranked.offer.instance_type.name
        if self._failures is None or self._failures.message != message:
            log.error(f"Launch of {name} in {order.ranked.offer.zone} failed, no instance was started: {message}")
        self.record_launch_failed(order.token, message)
        self.cancel_waiting(f"not attempted: {message}")
        rounds = 0 if self._failures is None else self._failures.rounds
        if self._failed_at is None or order.ordered_at > self._failed_at or not rounds:
            rounds += 1
        self._failed_at = self._loop.now()
        self._failures = LaunchFailures(rounds=rounds, message=message, bad_input=isinstance(error, InputError))

    def adopt(self, instance: Instance) -> None:
        """Record that a launch of unknown outcome succeeded: its instance is listed."""
        self._unknown.pop(instance.client_token, None)
        self._failures = None
        self.refused_scopes.launched()
        now = self._loop.now()
        self._writes.submit(lambda: self._store.record_launched(instance.client_token, instance, answered_at=now))

    def forget(self, client_token: str, reason: str) -> None:
        """Record that a launch of unknown outcome failed: its instance is not listed.

        Unless its error was transient, it counts as a certain failure from now on.
        """
        order, error = self._unknown.pop(client_token, (None, None))
        if order is None or error is None or _is_transient(error):
            self.record_unlisted(client_token, reason)
        else:
            self._record_failure(order, error)

    def _block(self, request: LaunchRequest, error: LaunchRefusedError) -> None:
        offer, blocks = request.offer, self.refused_scopes.add(request, error)
        log.warning(
            f"{offer.instance_type.name} ({offer.provisioning_model.value}) in {offer.zone} was refused: {error}; "
            f"avoiding this {error.scope.value.replace('_', ' ')} for {format_span(error.retry_after)}"
        )
        for token, order in list(self._waiting.items()):
            if any(block.covers(order.ranked.offer) for block in blocks):
                self._withdraw(token, f"not attempted: {error.reason}")

    def cancel_waiting(self, reason: str = "withdrawn") -> None:
        """Withdraw the launches that have not been called."""
        for token in tuple(self._waiting):
            self._withdraw(token, reason)

    def _withdraw(self, token: str, reason: str) -> None:
        del self._waiting[token]
        self._wave.not_started["not attempted"] += 1
        self.record_launch_failed(token, reason)

    def _settle(self) -> None:
        self._dispatch()
        if not self.busy:
            log.info(self._wave.summary())

    def record_launch_failed(self, client_token: str, reason: str) -> None:
        """Record that a launch started nothing."""
        self._writes.submit(lambda: self._store.record_launch_failed(client_token, reason))

    def record_unlisted(self, client_token: str, reason: str) -> None:
        """Record that a listing does not show the instance of a launch of unknown outcome."""
        now = self._loop.now()
        self._writes.submit(lambda: self._store.record_launch_failed(client_token, reason, unlisted_at=now))


def _is_transient(error: Exception) -> bool:
    return isinstance(error, CredentialsError) or (isinstance(error, ProviderError) and error.transient)


def _refused_credentials(error: CredentialsError) -> LaunchRefusedError:
    """Return the refusal of every launch, until a listing succeeds again or the delay is over."""
    return LaunchRefusedError(
        error.message,
        scope=RefusalScope.ACCOUNT,
        retry_after=_CREDENTIALS_DELAY,
        reason=CREDENTIALS,
        hint=error.hint,
        needs_action=True,
    )


def _text(error: Exception) -> str:
    """Return the message of an error, with its class unless the error is one of the plugin contract."""
    return str(error) if isinstance(error, CloudTasksError) else f"{type(error).__name__}: {error}"
