//! Reading the keys of namespaces with `replication = consensus`, as they are in a view.
//!
//! What a view holds may be behind what other members have acknowledged: whoever needs the newest makes sure of that first.

use crate::{
    keyspace::{
        NamespaceId,
        codec::{self, Undecodable},
        consensus::{self, Head, PREFIX_BYTES, Row},
    },
    store::{Error, Family, View, end_of_prefix},
};

/// Of several keys that are read together, so many are looked up at once.
const KEYS_READ_AT_ONCE: usize = 32;

/// What one key holds.
///
/// # Errors
/// When the store cannot be read or the row is damaged.
pub fn get(view: &dyn View, namespace: NamespaceId, key: &[u8]) -> Result<Option<Row>, Error> {
    let row = view.get(Family::Consensus, &consensus::key(namespace, key))?;
    Ok(row.map(|row| decode(&row)).transpose()?)
}

/// What several keys hold, each with its place among `keys`, in their order; visits until `visit` returns false. They are read a
/// few at a time, so that memory holds a few, and so not of one moment.
///
/// # Errors
/// When the store cannot be read or a row is damaged.
pub fn get_many(
    view: &dyn View,
    namespace: NamespaceId,
    keys: &[impl AsRef<[u8]>],
    visit: &mut dyn FnMut(usize, Option<Row>) -> bool,
) -> Result<(), Error> {
    let mut place = 0;
    for keys in keys.chunks(KEYS_READ_AT_ONCE) {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| consensus::key(namespace, key.as_ref())).collect();
        for row in view.get_many(Family::Consensus, &keys)? {
            let row = row.map(|row| decode(&row)).transpose()?;
            if !visit(place, row) {
                return Ok(());
            }
            place += 1;
        }
    }
    Ok(())
}

/// Keys with `prefix`, in key order, strictly after `after`, all of one moment; visits until `visit` returns false.
///
/// # Errors
/// When the store cannot be read or a row is damaged.
pub fn scan(
    view: &dyn View,
    namespace: NamespaceId,
    prefix: &[u8],
    after: Option<&[u8]>,
    visit: &mut dyn FnMut(&[u8], Row) -> bool,
) -> Result<(), Error> {
    let from = consensus::key(namespace, prefix);
    let to = end_of_prefix(&from);
    // The smallest key above `after` is `after` and a zero byte.
    let from = match after {
        Some(after) => from.max([&consensus::key(namespace, after)[..], &[0]].concat()),
        None => from,
    };
    let mut damage = None;
    view.scan(
        Family::Consensus,
        &from,
        to.as_deref(),
        &mut |key, value| match decode(value) {
            Ok(row) => visit(&key[PREFIX_BYTES..], row),
            Err(undecodable) => {
                damage = Some(undecodable);
                false
            }
        },
    )?;
    damage.map_or(Ok(()), |undecodable| Err(undecodable.into()))
}

/// The row in these bytes, as [`crate::Follower`] hands them out.
///
/// # Errors
/// When it is damaged or of a newer version.
pub fn decode(row: &[u8]) -> Result<Row, Undecodable> {
    codec::decode(row)
}

/// The revision of the last transaction that changed something; 0 before the first.
///
/// # Errors
/// When the store fails.
pub fn revision(view: &dyn View) -> Result<u64, Error> {
    let head = view.get(Family::Consensus, &consensus::head())?;
    let head = head.map(|head| codec::decode::<Head>(&head)).transpose()?;
    Ok(head.unwrap_or_default().revision)
}
