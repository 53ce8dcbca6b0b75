//! openraft's own tests of a store.

use engine::{
    Engine, Environment,
    store::{memory::Memory, rocks::Rocks},
};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use std::sync::Arc;
use tempfile::TempDir;
use wal::storage::{Disk, Faulty, Storage};

use super::{
    super::{images::Images, log::Log, machine::Machine, types::Types},
    clock,
};
use crate::metrics::Metrics;

/// Makes a store for each test.
struct Builder {
    on_disk: bool,
}

impl Builder {
    fn engine(&self, place: &TempDir) -> Engine {
        let (log, store): (Arc<dyn Storage>, Arc<dyn engine::store::Store>) = if self.on_disk {
            let rocks = Rocks::open(&place.path().join("db"), &engine::store::rocks::Settings::default()).unwrap();
            (Arc::new(Disk::open(place.path().join("log")).unwrap()), Arc::new(rocks))
        } else {
            (Arc::new(Faulty::new()), Arc::new(Memory::new()))
        };
        let environment = Environment {
            node: "test".to_owned(),
            clock: clock(),
            entropy: || 7,
            log,
            store,
        };
        let settings = engine::Settings {
            segment_bytes: 4 << 20,
            ..engine::Settings::default()
        };
        Engine::open(settings, environment).unwrap()
    }
}

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let place = tempfile::tempdir().unwrap();
        let engine = self.engine(&place);
        let metrics = Metrics::new();
        let log = Log::open(engine.clone(), &metrics).unwrap();
        let machine = Machine::open(
            engine,
            Images::new(Some(place.path().join("incoming")), &metrics),
            &metrics,
        )
        .unwrap();
        Ok((place, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_in_memory() {
    Suite::test_all(Builder { on_disk: false }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_on_rocksdb() {
    Suite::test_all(Builder { on_disk: true }).await.unwrap();
}
