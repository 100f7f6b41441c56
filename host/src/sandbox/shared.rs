//! Shared data: what the VMs of one `vm_id` keep in common, in all workers.

use std::collections::BTreeMap;

use super::status::Status;

/// Keys and values, each with the number of its last write. Writes of all VMs are numbered together.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    values: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    writes: u32,
}

impl SharedData {
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.values.get(&(vm_id.to_owned(), key.to_vec())).cloned().ok_or(Status::NotFound)
    }

    /// Writes unless `cas` names another write than the last; 0 writes always, and a new key needs none.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_vec());
        match self.values.get(&key) {
            Some((_, last)) if cas != 0 && cas != *last => return Err(Status::CasMismatch),
            Some(_) | None => {}
        }
        self.writes = self.writes.checked_add(1).unwrap_or(1);
        self.values.insert(key, (value.to_vec(), self.writes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_with_an_old_number_is_refused() {
        let mut shared = SharedData::default();
        assert_eq!(shared.get("v", b"k"), Err(Status::NotFound));
        assert_eq!(shared.set("v", b"k", b"1", 9), Ok(()), "a new key takes any number");
        assert_eq!(shared.get("v", b"k"), Ok((b"1".to_vec(), 1)));
        assert_eq!(shared.set("v", b"k", b"2", 1), Ok(()));
        assert_eq!(shared.set("v", b"k", b"3", 1), Err(Status::CasMismatch));
        assert_eq!(shared.set("v", b"k", b"4", 0), Ok(()));
        assert_eq!(shared.get("v", b"k"), Ok((b"4".to_vec(), 3)));
        assert_eq!(shared.get("w", b"k"), Err(Status::NotFound), "another vm_id, another key");
    }
}
