//! `Admin/Status`: what every row under the faces says of itself.

use engine::{ledger, store::Family};
use proto::v1::{Check, DiskStatus, FamilyStatus, LogConsumer, LogStatus, PoolStatus, StatusResponse};
use wal::Lsn;

use super::{
    super::{directory, status::Refused},
    Service,
};
use crate::runtime::{health::Bearing, process};

/// Namespaces counted.
const NAMESPACES_MAX: usize = ledger::NAMESPACES_MAX as usize;

impl Service {
    pub(super) fn describe(&self) -> Result<StatusResponse, Refused> {
        let engine = self.engine();
        let operations = self.operations();
        let about = &operations.about;
        let ready = operations.health.ready();
        let check = |check: &crate::runtime::health::Check| Check {
            name: check.name.to_owned(),
            failure: check.failure.clone().unwrap_or_default(),
            decides: check.bearing != Bearing::Limited,
        };
        let disk = engine.disk();
        let pool = ledger::pool_stats(engine.view())?;
        let namespaces = directory::list(engine.view(), None, NAMESPACES_MAX)?;

        Ok(StatusResponse {
            node: about.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: engine.cluster().to_vec(),
            incarnation: engine.actor().incarnation,
            started_at: Some(super::time_of(about.started_at)),
            grpc_address: about.grpc_address.to_string(),
            http_address: about.http_address.to_string(),
            data_directory: about.data_directory.display().to_string(),
            ready: ready.passes(),
            checks: ready.checks.iter().map(check).collect(),
            lsn: engine.committed().borrow().0,
            log: Some(self.log()?),
            families: self.families()?,
            disk: Some(DiskStatus {
                free_bytes: disk.free_bytes,
                needed_bytes: disk.needed_bytes,
                compacts: disk.compacts,
            }),
            namespaces: count(namespaces.len()),
            pool: Some(PoolStatus {
                concepts: pool.concepts,
                contributors: pool.contributors,
            }),
            resident_bytes: process::resident_bytes().unwrap_or(0),
            snapshots: count(operations.snapshots.count()?),
        })
    }
}

impl Service {
    fn log(&self) -> Result<LogStatus, Refused> {
        let engine = self.engine();
        let (extent, first) = engine.log_extent()?;
        let consumer = |(name, lsn): (String, Lsn)| LogConsumer { name, lsn: lsn.0 };
        Ok(LogStatus {
            segments: extent.segments,
            bytes: extent.bytes,
            first_lsn: first.0,
            consumers: engine.followers().into_iter().map(consumer).collect(),
        })
    }

    fn families(&self) -> Result<Vec<FamilyStatus>, Refused> {
        let describe = |family: Family| {
            let (keys, bytes) = self.engine().family_extent(family)?;
            let name = family.name().to_owned();
            Ok(FamilyStatus { name, keys, bytes })
        };
        Family::ALL.into_iter().map(describe).collect()
    }
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
