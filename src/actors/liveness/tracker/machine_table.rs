//! The tracked machines: a dense table and an index by id.
//!
//! A message of a machine costs one cache line: the key is compared where the state lies. The full ids are
//! kept apart, for transitions and views.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::domain::MachineId;

use super::machine::Machine;

/// A machine's index in the table. It stays until the machine is removed, and may then be given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

/// Longest id, in bytes, that fits into an entry.
const KEY_BYTES_MAX: usize = 23;

/// A machine's id if it is short; a long one is compared among the full ids.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    /// 0 for a long id.
    len: u8,
    /// Zeros after the id.
    bytes: [u8; KEY_BYTES_MAX],
}

impl Key {
    const LONG: Key = Key { len: 0, bytes: [0; KEY_BYTES_MAX] };

    fn of(machine_id: &str) -> Self {
        let mut key = Self::LONG;
        if let (Some(bytes), Ok(len)) =
            (key.bytes.get_mut(..machine_id.len()), u8::try_from(machine_id.len()))
        {
            bytes.copy_from_slice(machine_id.as_bytes());
            key.len = len;
        }
        key
    }
}

/// One cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    key: Key,
    machine: Machine,
}

const _: () = assert!(size_of::<Entry>() == 64, "a machine is one cache line");

/// Machines by slot and by id.
#[derive(Debug)]
pub(super) struct MachineTable {
    entries: Vec<Entry>,
    ids: Vec<MachineId>,
    index: HashTable<Slot>,
    /// Slots of removed machines, the oldest first. Such a slot is given away once its entry among the deadlines
    /// is gone.
    removed: VecDeque<Slot>,
    /// Slots in order of their ids, as of the last [`Self::iter_in_order`].
    sorted: Vec<Slot>,
    /// A slot was given to another machine since.
    order_is_stale: bool,
    /// Seeded at random, so that a publisher cannot choose ids that collide.
    hasher: RandomState,
}

impl MachineTable {
    pub(super) fn with_capacity(machines: usize) -> Self {
        Self {
            entries: Vec::with_capacity(machines),
            ids: Vec::with_capacity(machines),
            index: HashTable::with_capacity(machines),
            removed: VecDeque::new(),
            sorted: Vec::new(),
            order_is_stale: false,
            hasher: RandomState::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.removed.len()
    }

    /// Returns every slot, those of removed machines included.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).map(Slot)
    }

    pub(super) fn find(&self, machine_id: &str) -> Option<Slot> {
        let key = Key::of(machine_id);
        let hash = self.hasher.hash_one(machine_id);
        self.index.find(hash, |&slot| self.is(slot, &key, machine_id)).copied()
    }

    /// Does [`Self::find`] for many machines. It waits for the memory of all of them together, which is most
    /// of the cost once the table exceeds the processor's caches.
    pub(super) fn find_all<'a>(
        &self,
        machine_ids: impl Iterator<Item = &'a str> + Clone,
        slots: &mut Vec<Option<Slot>>,
    ) {
        slots.clear();
        // The index alone first: its first candidate is wrong in about one of a hundred cases.
        slots.extend(
            machine_ids
                .clone()
                .map(|machine_id| self.index.iter_hash(self.hasher.hash_one(machine_id)).next().copied()),
        );
        for (slot, machine_id) in slots.iter_mut().zip(machine_ids) {
            let key = Key::of(machine_id);
            if slot.is_some_and(|candidate| !self.is(candidate, &key, machine_id)) {
                *slot = self.find(machine_id);
            }
        }
    }

    fn is(&self, slot: Slot, key: &Key, machine_id: &str) -> bool {
        self.entries[slot.0 as usize].key == *key
            && (*key != Key::LONG || self.id(slot).as_str() == machine_id)
    }

    /// Adds a machine that is not there yet.
    pub(super) fn add(&mut self, machine_id: MachineId, machine: Machine) -> Slot {
        debug_assert!(self.find(machine_id.as_str()).is_none(), "a machine has one slot");
        let key = Key::of(machine_id.as_str());
        let hash = self.hasher.hash_one(machine_id.as_str());
        let slot = match self.free_slot() {
            Some(slot) => {
                self.ids[slot.0 as usize] = machine_id;
                self.entries[slot.0 as usize] = Entry { key, machine };
                self.order_is_stale = true;
                slot
            }
            None => {
                let next =
                    u32::try_from(self.entries.len()).expect("fewer than 2^32 machines fit into memory");
                self.ids.push(machine_id);
                self.entries.push(Entry { key, machine });
                Slot(next)
            }
        };
        let Self { ids, index, hasher, .. } = self;
        index.insert_unique(hash, slot, |other| hasher.hash_one(ids[other.0 as usize].as_str()));
        slot
    }

    /// Removes a machine. Its slot stays in [`Self::slots`] until it is given away.
    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = self.hasher.hash_one(self.id(slot).as_str());
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.get_mut(slot).mark_removed();
            self.removed.push_back(slot);
        }
    }

    fn free_slot(&mut self) -> Option<Slot> {
        self.removed.front().filter(|slot| !self.get(**slot).is_armed())?;
        self.removed.pop_front()
    }

    pub(super) fn id(&self, slot: Slot) -> &MachineId {
        &self.ids[slot.0 as usize]
    }

    pub(super) fn get(&self, slot: Slot) -> &Machine {
        &self.entries[slot.0 as usize].machine
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Machine {
        &mut self.entries[slot.0 as usize].machine
    }

    pub(super) fn with_id_mut(&mut self, slot: Slot) -> (&MachineId, &mut Machine) {
        (&self.ids[slot.0 as usize], &mut self.entries[slot.0 as usize].machine)
    }

    /// Returns all machines in order of their ids. Cheap if none was added since the last call.
    pub(super) fn iter_in_order(&mut self) -> impl Iterator<Item = (Slot, &MachineId, &Machine)> {
        let Self { sorted, ids, entries, order_is_stale, .. } = self;
        if sorted.len() < ids.len() || std::mem::take(order_is_stale) {
            let (old, new) = (sorted.len(), ids.len());
            sorted
                .extend((old..new).map(|index| Slot(u32::try_from(index).expect("slots fit into 32 bits"))));
            // The stable sort is fast on the part that is already in order.
            sorted.sort_by(|one, other| ids[one.0 as usize].cmp(&ids[other.0 as usize]));
        }
        sorted
            .iter()
            .map(|slot| (*slot, &ids[slot.0 as usize], &entries[slot.0 as usize].machine))
            .filter(|(_, _, machine)| !machine.is_removed())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &MachineId, &Machine)> {
        self.iter_from(0)
    }

    /// Returns the machines whose slots begin at number `first`, in the order of their slots.
    pub(super) fn iter_from(&self, first: usize) -> impl Iterator<Item = (Slot, &MachineId, &Machine)> {
        let first = first.min(self.ids.len());
        let slots = (u32::try_from(first).expect("slots fit into 32 bits")..).map(Slot);
        let machines = self.entries[first..].iter().map(|entry| &entry.machine);
        slots
            .zip(self.ids[first..].iter().zip(machines))
            .map(|(slot, (id, machine))| (slot, id, machine))
            .filter(|(_, _, machine)| !machine.is_removed())
    }
}

impl Slot {
    /// Returns its number, from 0.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Slot;

    /// Returns the slot with this number.
    pub(in super::super) fn slot(number: u32) -> Slot {
        Slot(number)
    }
}
