//! All that waits in a queue, as far as it goes together.

use engine::Engine;
use tokio::sync::mpsc;

use super::log::record_bytes_max;

/// Commands decided as one entry, so that one answer never waits for thousands of others to be decided.
const COMMANDS_MAX: usize = 1_024;
/// An entry takes no further command beyond this weight; a single heavier command is an entry of its own.
pub(super) const WEIGHT_MAX: usize = 1 << 20;

/// What is gathered.
pub(super) trait Gathered {
    /// Roughly the bytes that it writes.
    fn weight(&self) -> usize;

    /// How many commands it is.
    fn commands(&self) -> usize;
}

/// What goes together, at most; what comes first is taken, whatever it weighs.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) commands: usize,
    pub(super) weight: usize,
}

impl Limits {
    /// What fits an entry of raft's log; in segments that are small, less does.
    pub(super) fn of_an_entry(engine: &Engine) -> Limits {
        Limits {
            commands: COMMANDS_MAX,
            weight: WEIGHT_MAX.min(record_bytes_max(engine)),
        }
    }
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    /// `None` was sent, or all senders have gone.
    Nothing,
}

/// Takes what waits from a queue; `None` in it ends it.
pub(super) struct Gatherer<T> {
    queue: mpsc::UnboundedReceiver<Option<T>>,
    limits: Limits,
    /// Taken from the queue, but too much for what goes together now.
    kept: Option<T>,
}

impl<T: Gathered> Gatherer<T> {
    pub(super) fn new(queue: mpsc::UnboundedReceiver<Option<T>>, limits: Limits) -> Gatherer<T> {
        let kept = None;
        Gatherer { queue, limits, kept }
    }

    /// Waits for one, then takes all that wait, up to the limits.
    pub(super) async fn gather(&mut self) -> (Vec<T>, Next) {
        let first = match self.kept.take() {
            Some(kept) => kept,
            None => match self.queue.recv().await.flatten() {
                Some(first) => first,
                None => return (Vec::new(), Next::Nothing),
            },
        };
        let (mut commands, mut weight) = (first.commands(), first.weight());
        let mut together = vec![first];
        loop {
            match self.queue.try_recv() {
                Ok(Some(next)) => {
                    commands += next.commands();
                    weight += next.weight();
                    if commands > self.limits.commands || weight > self.limits.weight {
                        self.kept = Some(next);
                        return (together, Next::More);
                    }
                    together.push(next);
                }
                Ok(None) => return (together, Next::Nothing),
                Err(_) => return (together, Next::More),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Gathered for usize {
        fn weight(&self) -> usize {
            *self
        }

        fn commands(&self) -> usize {
            1
        }
    }

    #[tokio::test]
    async fn what_waits_is_taken_up_to_the_limits_and_in_order() {
        let (sender, queue) = mpsc::unbounded_channel();
        let limits = Limits {
            commands: 3,
            weight: 10,
        };
        let mut gatherer = Gatherer::new(queue, limits);
        for weight in [4, 6, 1, 1, 1, 1, 50, 2] {
            sender.send(Some(weight)).unwrap();
        }
        sender.send(None).unwrap();
        sender.send(Some(9)).unwrap();
        for expected in [vec![4, 6], vec![1, 1, 1], vec![1], vec![50]] {
            assert_eq!(gatherer.gather().await, (expected, Next::More));
        }
        assert_eq!(gatherer.gather().await, (vec![2], Next::Nothing));
    }

    #[tokio::test]
    async fn a_queue_without_senders_has_ended() {
        let (sender, queue) = mpsc::unbounded_channel::<Option<usize>>();
        let limits = Limits {
            commands: 3,
            weight: 10,
        };
        let mut gatherer = Gatherer::new(queue, limits);
        drop(sender);
        assert_eq!(gatherer.gather().await, (Vec::new(), Next::Nothing));
    }
}
