//! Local writes: an operation, a dot and a stamp become a new state.

use std::collections::{BTreeSet, HashSet};

use super::{
    Content, Dot, Entry, Join, Kind, SIBLINGS_MAX, STATE_BYTES_MAX, State, Strategy, VALUE_BYTES_MAX, VersionVector,
    strategy::is_live,
};
use crate::{clock::Stamp, identity::Actor};

/// A local write, before it has a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A whole value of a register or siblings key.
    Put {
        /// [`Kind::Register`] or [`Kind::Siblings`]; any other is refused.
        kind: Kind,
        /// JSON text as sent, parsed and found good by the caller.
        json: String,
        /// Absolute expiry.
        expires: Option<Stamp>,
    },
    /// Elements of a set, in canonical JSON. Removals happen first: an element in both lists is present afterwards.
    Change {
        /// Elements that shall be present.
        add: Vec<String>,
        /// Elements that shall be absent.
        remove: Vec<String>,
    },
    /// A counter moves.
    Add {
        /// By how much, either way.
        delta: i64,
    },
    /// Everything superseded goes, of whatever kind.
    Delete,
    /// Of this node's own values, in whatever life it wrote them, those that have expired by this stamp go. It is the writer
    /// who deletes what expires: other nodes' values stay, expired ones too.
    Expire {
        /// The time at which they are expired.
        by: Stamp,
    },
}

/// Which of the present values a local write replaces.
///
/// It decides for puts, deletes and the removals of a set. Additions to a set, a counter's moves and an expiry name what they
/// replace themselves (the same element, the actor's own share, what has expired), and a delete or removal of *nothing* would
/// be no operation at all: for these [`Supersede::Nothing`] means the same as [`Supersede::All`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supersede {
    /// Those the writer has read, here or at another node.
    Seen(VersionVector),
    /// All that this node has.
    All,
    /// None: the write is concurrent with everything.
    Nothing,
    /// For a deletion by somebody who has read nothing: all that this node has where one value is meant to win under this
    /// strategy, and refused where concurrent values must not vanish unread.
    Unread(Strategy),
}

impl Supersede {
    /// What a write that brings no context replaces: all that this node has where one value is meant to win, nothing
    /// where concurrent values are meant to stay until somebody has read them.
    #[must_use]
    pub fn without_context(kind: Kind, strategy: Strategy) -> Supersede {
        match (kind, strategy) {
            (Kind::Siblings, _) | (Kind::Register, Strategy::MergeUnion | Strategy::KeepSiblings) => Supersede::Nothing,
            (Kind::Register, Strategy::LastWriteWins | Strategy::HighestNodeWins) | (Kind::Set | Kind::Counter, _) => {
                Supersede::All
            }
        }
    }
}

/// Why a local write was not taken; the state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The operation does not fit what the key holds.
    #[error("the key holds a {} (perhaps an expired one), the write is for a {}: delete the key first, or write it as a {}", .held.name(), .asked.name(), .held.name())]
    KindMismatch {
        /// What the key holds.
        held: Kind,
        /// What the write would make of it.
        asked: Kind,
    },
    /// Concurrent values have piled up.
    #[error(
        "the key already holds {SIBLINGS_MAX} concurrent values: read it and write with the context returned, which replaces them"
    )]
    TooManySiblings,
    /// One value or element is too large.
    #[error("the value has {bytes} bytes of JSON, at most {VALUE_BYTES_MAX} are stored: split it over several keys")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// All values or elements of the key together are too large.
    #[error(
        "the key would hold {bytes} bytes (32 of them for each value or element), at most {STATE_BYTES_MAX} are stored: replace or remove values, or split them over several keys"
    )]
    StateTooLarge {
        /// What the key would hold.
        bytes: usize,
    },
    /// The counter would leave the range of 64-bit signed integers.
    #[error("the counter would leave the range of 64-bit signed integers")]
    CounterOverflow,
    /// Concurrent values are not deleted unread.
    #[error("required here, where concurrent values must not vanish unread: read the key and pass its context")]
    ContextRequired,
    /// A set was read at a node that knows more than this one does yet.
    #[error(
        "the context names changes that this node has not received yet: retry, or write at the node it was read from"
    )]
    ContextAhead,
    /// The state or context already names this dot or a later one of the writing actor: its counter has gone back.
    #[error(
        "write {counter} of this node was already seen elsewhere: its data directory is older than its name, it needs a new incarnation"
    )]
    DotSeen {
        /// The counter that was to be used.
        counter: u64,
    },
}

impl State {
    /// The newest stamp among the values `operation` would replace: the write's own stamp must be above it.
    #[must_use]
    pub fn superseded_stamp(&self, actor: &Actor, operation: &Operation, supersede: &Supersede) -> Option<Stamp> {
        self.superseded(actor, operation, supersede)
            .map(|(_, entry)| entry.stamp)
            .max()
    }

    /// Carries out a write of this node. `first` is the first dot the write may use; the return value tells how many
    /// consecutive ones it used: one per added element, else one, and none where there was nothing to do (deleting what
    /// is not there), in which case the state is unchanged.
    ///
    /// # Errors
    /// [`Rejected`]; the state is unchanged.
    pub fn write_local(
        &mut self,
        first: &Dot,
        stamp: Stamp,
        operation: &Operation,
        supersede: &Supersede,
    ) -> Result<u64, Rejected> {
        self.check_dot(first, supersede)?;
        self.check_kind(operation)?;
        self.check_read(supersede)?;
        let replaced: Vec<Dot> = self
            .superseded(&first.actor, operation, supersede)
            .map(|(dot, _)| dot.clone())
            .collect();
        let written = self.contents(first, operation)?;
        if let (Operation::Change { .. }, Supersede::Seen(seen)) = (operation, supersede)
            && !self.context.includes(seen)
        {
            return Err(Rejected::ContextAhead);
        }
        if written.is_empty() && replaced.is_empty() && !self.learns(operation, supersede) {
            return Ok(0);
        }
        self.check_limits(&written, &replaced)?;

        let expires = if let Operation::Put { expires, .. } = operation {
            *expires
        } else {
            None
        };
        let used = (written.len() as u64).max(1);
        for dot in replaced {
            self.entries.remove(&dot);
        }
        if let (true, Supersede::Seen(seen)) = (replaces_whole_key(operation), supersede) {
            self.context.join(seen);
        }
        for (counter, content) in (first.counter..).zip(written) {
            self.entries.insert(
                Dot {
                    actor: first.actor.clone(),
                    counter,
                },
                Entry {
                    stamp,
                    expires,
                    content,
                },
            );
        }
        self.context.insert(&Dot {
            actor: first.actor.clone(),
            counter: first.counter + used - 1,
        });
        Ok(used)
    }

    /// The entries that `operation` replaces.
    fn superseded<'a>(
        &'a self,
        actor: &'a Actor,
        operation: &'a Operation,
        supersede: &'a Supersede,
    ) -> impl Iterator<Item = (&'a Dot, &'a Entry)> {
        let (added, removed) = match operation {
            Operation::Change { add, remove } => (add.iter().collect(), remove.iter().collect()),
            _ => (HashSet::new(), HashSet::new()),
        };
        self.entries.iter().filter(move |(dot, entry)| {
            let seen = match supersede {
                Supersede::Seen(context) => context.contains(dot),
                Supersede::All | Supersede::Unread(_) => true,
                Supersede::Nothing => !matches!(operation, Operation::Put { .. }),
            };
            match (operation, &entry.content) {
                (Operation::Put { .. } | Operation::Delete, _) => seen,
                (Operation::Expire { by }, _) => dot.actor.node == actor.node && !is_live(entry, *by),
                (Operation::Change { .. }, Content::Element(element)) => {
                    added.contains(element) || (seen && removed.contains(element))
                }
                (Operation::Add { .. }, Content::Sums { .. }) => dot.actor == *actor,
                (Operation::Change { .. } | Operation::Add { .. }, _) => false,
            }
        })
    }

    /// What `operation` puts in, in the order of its dots.
    fn contents(&self, first: &Dot, operation: &Operation) -> Result<Vec<Content>, Rejected> {
        Ok(match operation {
            Operation::Put {
                kind: Kind::Siblings,
                json,
                ..
            } => vec![Content::Sibling(json.clone())],
            Operation::Put { json, .. } => vec![Content::Register(json.clone())],
            Operation::Change { add, .. } => {
                let distinct: BTreeSet<&String> = add.iter().collect();
                distinct.into_iter().cloned().map(Content::Element).collect()
            }
            Operation::Add { delta } => vec![self.moved(first, *delta)?],
            Operation::Delete | Operation::Expire { .. } => Vec::new(),
        })
    }

    /// This actor's share of the counter after it moved by `delta`.
    fn moved(&self, first: &Dot, delta: i64) -> Result<Content, Rejected> {
        let own = self.entries.iter().find_map(|(dot, entry)| match entry.content {
            Content::Sums { increments, decrements } if dot.actor == first.actor => Some((increments, decrements)),
            _ => None,
        });
        let (mut increments, mut decrements) = own.unwrap_or((0, 0));
        let side = if delta < 0 { &mut decrements } else { &mut increments };
        *side = side
            .checked_add(delta.unsigned_abs())
            .ok_or(Rejected::CounterOverflow)?;
        i64::try_from(self.total() + i128::from(delta)).map_err(|_| Rejected::CounterOverflow)?;
        Ok(Content::Sums { increments, decrements })
    }

    /// Whether `operation` learns from its context of writes that have not arrived here, and must remember them.
    fn learns(&self, operation: &Operation, supersede: &Supersede) -> bool {
        matches!(supersede, Supersede::Seen(seen) if replaces_whole_key(operation) && !self.context.includes(seen))
    }

    fn check_dot(&self, first: &Dot, supersede: &Supersede) -> Result<(), Rejected> {
        let named = matches!(supersede, Supersede::Seen(seen) if seen.contains(first));
        if named || self.context.contains(first) {
            Err(Rejected::DotSeen { counter: first.counter })
        } else {
            Ok(())
        }
    }

    fn check_read(&self, supersede: &Supersede) -> Result<(), Rejected> {
        match (supersede, self.kind()) {
            (Supersede::Unread(strategy), Some(kind))
                if Supersede::without_context(kind, *strategy) == Supersede::Nothing =>
            {
                Err(Rejected::ContextRequired)
            }
            _ => Ok(()),
        }
    }

    fn check_kind(&self, operation: &Operation) -> Result<(), Rejected> {
        let asked = match operation {
            Operation::Put { kind, .. } => *kind,
            Operation::Change { .. } => Kind::Set,
            Operation::Add { .. } => Kind::Counter,
            Operation::Delete | Operation::Expire { .. } => return Ok(()),
        };
        let held = match operation {
            // A value can never become a set or counter by being put as one.
            Operation::Put {
                kind: Kind::Set | Kind::Counter,
                ..
            } => self.kind().unwrap_or(Kind::Register),
            _ => self.kind().unwrap_or(asked),
        };
        let fits = held == asked
            && !matches!(
                operation,
                Operation::Put {
                    kind: Kind::Set | Kind::Counter,
                    ..
                }
            );
        if fits {
            Ok(())
        } else {
            Err(Rejected::KindMismatch { held, asked })
        }
    }

    fn check_limits(&self, written: &[Content], replaced: &[Dot]) -> Result<(), Rejected> {
        if let Some(large) = written
            .iter()
            .map(Content::json_bytes)
            .find(|bytes| *bytes > VALUE_BYTES_MAX)
        {
            return Err(Rejected::ValueTooLarge { bytes: large });
        }
        let kept = self.entries.len() - replaced.len();
        if let [Content::Register(_) | Content::Sibling(_)] = written
            && kept >= SIBLINGS_MAX
        {
            return Err(Rejected::TooManySiblings);
        }
        let freed: usize = replaced
            .iter()
            .filter_map(|dot| self.entries.get(dot))
            .map(|entry| entry.content.stored_bytes())
            .sum();
        let added: usize = written.iter().map(Content::stored_bytes).sum();
        let bytes = self.stored_bytes() - freed + added;
        // A write that does not grow the key is taken even where joins have made it too large: it is the way out.
        if bytes > STATE_BYTES_MAX && added > freed {
            Err(Rejected::StateTooLarge { bytes })
        } else {
            Ok(())
        }
    }
}

/// Whether everything in the writer's context is replaced, including what has not arrived here yet. A change of a set
/// names single elements: remembering its whole context as seen would remove all others that are still on their way.
fn replaces_whole_key(operation: &Operation) -> bool {
    matches!(operation, Operation::Put { .. } | Operation::Delete)
}
