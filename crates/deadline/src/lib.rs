//! One limit for a whole task.
//!
//! A [`Deadline`] is made once, when a task begins, and handed down to everything that waits, so
//! that the waits share one limit instead of adding up. When it passes, the error says what was
//! being waited for and since when.
//!
//! Time that passes while the process is stopped (`SIGSTOP`) or the machine sleeps counts too. The
//! clock behind [`Instant`] is `CLOCK_MONOTONIC`, which goes on for a stopped process but stands
//! still while the machine sleeps; `CLOCK_BOOTTIME` tells how long that was. A change that was due
//! before the sleep may be wrong after it: [`Deadline::guard`] sends none.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The moment at which a task must have ended. Cheap to copy; covers everything the task does.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    /// How long the machine had slept when the deadline was made.
    slept_before: Duration,
    limit: Duration,
}

/// A wait that the deadline ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited {} for {what} (timeout {})", seconds(*waited), seconds(*limit))]
pub struct Expired {
    /// What was waited for, as a noun phrase: `the task UPID:... to end`.
    pub what: String,
    /// How long this wait lasted.
    pub waited: Duration,
    /// The limit of the deadline that ended it, counted from when the deadline was made.
    pub limit: Duration,
}

/// Longer limits mean "no limit" and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Deadline {
    /// A deadline `limit` from now.
    pub fn after(limit: Duration) -> Self {
        let limit = limit.min(LONGEST);
        Self {
            end: Instant::now() + limit,
            slept_before: slept(),
            limit,
        }
    }

    /// The time that is left; zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.remaining_at(Instant::now(), slept())
    }

    fn remaining_at(&self, now: Instant, slept: Duration) -> Duration {
        let left = self.end.saturating_duration_since(now);
        left.saturating_sub(slept.saturating_sub(self.slept_before))
    }

    /// Whether the time is over.
    pub fn expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The limit the deadline was made with.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// A deadline at most `limit` from now, and never later than this one.
    pub fn shorter(&self, limit: Duration) -> Deadline {
        let shorter = Self::after(limit);
        if shorter.end < self.end {
            shorter
        } else {
            *self
        }
    }

    /// Await `future`, or fail naming `what` was waited for and for how long.
    ///
    /// # Errors
    /// [`Expired`] when the deadline comes first; the future is dropped then. A future that is
    /// ready at once wins even over a deadline that has passed.
    pub async fn run<T>(
        &self,
        what: impl Into<String>,
        future: impl Future<Output = T>,
    ) -> Result<T, Expired> {
        let since = Instant::now();
        let mut future = pin!(future);
        loop {
            // Timers stand still while the machine sleeps; the slices notice that time passed.
            let slice = self.remaining().min(SLICE);
            if let Ok(value) = tokio::time::timeout(slice, &mut future).await {
                return Ok(value);
            }
            if self.expired() {
                return Err(self.expired_error(what, since.elapsed()));
            }
        }
    }

    /// Await `future`, which changes something elsewhere, and never let it take a step after the
    /// deadline: a process that was stopped or a machine that slept goes on in the middle of
    /// anything, and what it was about to send may no longer be wanted.
    ///
    /// # Errors
    /// [`Expired`] when the deadline has passed or comes first; the future is dropped then. Unlike
    /// in [`Deadline::run`], a future that is ready does not win over a deadline that has passed.
    pub async fn guard<T>(
        &self,
        what: impl Into<String>,
        future: impl Future<Output = T>,
    ) -> Result<T, Expired> {
        let mut future = pin!(future);
        let steps = std::future::poll_fn(|context| match self.expired() {
            true => std::task::Poll::Ready(None),
            false => future.as_mut().poll(context).map(Some),
        });
        let (what, since) = (what.into(), Instant::now());
        match self.run(what.clone(), steps).await? {
            Some(value) => Ok(value),
            None => Err(self.expired_error(what, since.elapsed())),
        }
    }

    /// Sleep for `duration`, or until the deadline if that comes first.
    ///
    /// Returns whether the whole duration was slept; `false` means that the time is over.
    pub async fn sleep(&self, duration: Duration) -> bool {
        let left = self.remaining();
        tokio::time::sleep(duration.min(left)).await;
        duration < left && !self.expired()
    }

    /// The error for a wait of `waited` for `what` that this deadline ended, for loops that poll
    /// and notice [`Deadline::expired`] by themselves.
    pub fn expired_error(&self, what: impl Into<String>, waited: Duration) -> Expired {
        Expired {
            what: what.into(),
            waited,
            limit: self.limit,
        }
    }
}

/// The pause before attempt `n` (from 1): 0.2 s doubled each time up to `most`, less up to half of
/// it at random, so that parallel tasks do not come back together.
pub fn backoff(n: u32, most: Duration) -> Duration {
    let full = Duration::from_millis(200)
        .saturating_mul(1 << n.saturating_sub(1).min(10))
        .min(most);
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    full.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// How long at most a wait goes on before it looks at the clock again.
const SLICE: Duration = Duration::from_secs(5);

/// How long the machine has slept since it booted, to the second: the two clocks cannot be read at
/// the same moment.
fn slept() -> Duration {
    let clock = |id| {
        let now = clock_gettime(id);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    };
    let awake = clock(ClockId::Monotonic);
    let slept = clock(ClockId::Boottime).saturating_sub(awake);
    Duration::from_secs(slept.as_secs_f64().round() as u64)
}

/// `30 s`, `1.5 s`: whole seconds from ten on, a tenth below.
fn seconds(duration: Duration) -> String {
    let exact = duration.as_secs_f64();
    let tenths = (exact * 10.0).round() / 10.0;
    if exact >= 10.0 || tenths.fract() == 0.0 {
        format!("{tenths:.0} s")
    } else {
        format!("{tenths:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_future_is_named() {
        let deadline = Deadline::after(Duration::from_secs(30));
        let error = deadline
            .run("the task X to end", std::future::pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 30 s for the task X to end (timeout 30 s)"
        );
        assert!(deadline.expired());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_shared_by_all_waits() {
        let deadline = Deadline::after(Duration::from_secs(30));
        assert!(deadline.sleep(Duration::from_secs(20)).await);
        let error = deadline
            .run("the guest", std::future::pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(error.waited, Duration::from_secs(10));
        assert_eq!(
            error.to_string(),
            "waited 10 s for the guest (timeout 30 s)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_deadline_is_never_later() {
        let deadline = Deadline::after(Duration::from_secs(5));
        assert_eq!(
            deadline.shorter(Duration::from_secs(9)).remaining(),
            Duration::from_secs(5)
        );
        assert_eq!(
            deadline.shorter(Duration::from_secs(2)).remaining(),
            Duration::from_secs(2)
        );
        assert_eq!(
            deadline.shorter(Duration::from_secs(2)).limit(),
            Duration::from_secs(2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_ready_future_wins_over_a_passed_deadline() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(!deadline.sleep(Duration::from_secs(1)).await);
        assert_eq!(deadline.run("nothing", async { 1 }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_limit_is_no_limit() {
        let deadline = Deadline::after(Duration::MAX);
        assert!(!deadline.expired());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_of_the_machine_counts() {
        let deadline = Deadline::after(Duration::from_secs(30));
        let left = |slept: u64| {
            let slept = deadline.slept_before + Duration::from_secs(slept);
            deadline.remaining_at(Instant::now(), slept)
        };
        assert_eq!(left(0), Duration::from_secs(30));
        assert_eq!(left(20), Duration::from_secs(10));
        assert_eq!(left(3600), Duration::ZERO);
    }

    /// Like a process that is stopped while it connects, and continued when its time is over.
    #[tokio::test]
    async fn a_guarded_future_takes_no_step_after_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(200));
        let mut sent = false;
        let late = async {
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_millis(300));
            tokio::task::yield_now().await;
            sent = true;
        };
        let error = deadline.guard("the change", late).await.unwrap_err();
        assert_eq!(error.what, "the change");
        assert!(!sent);
        let ready = async { sent = true };
        assert!(deadline.guard("the change", ready).await.is_err());
        assert!(!sent);
        let soon = Deadline::after(Duration::from_secs(30));
        assert_eq!(soon.guard("the change", async { 1 }).await, Ok(1));
    }

    #[test]
    fn seconds_are_short() {
        assert_eq!(seconds(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(seconds(Duration::from_millis(2000)), "2 s");
        assert_eq!(seconds(Duration::from_millis(30_400)), "30 s");
        assert_eq!(seconds(Duration::from_millis(40)), "0 s");
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let most = Duration::from_secs(2);
        for n in 1..40 {
            let pause = backoff(n, most);
            assert!(pause >= Duration::from_millis(100) && pause <= most);
        }
    }
}
