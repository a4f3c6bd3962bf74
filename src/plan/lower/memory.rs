//! Which values share bytes, and how long each lives.

use std::collections::BTreeMap;

use super::Draft;
use crate::graph::{Graph, Op, ValueId};
use crate::plan::arena::{Lifetime, Slot, place};
use crate::tensor::{DType, TensorData, TensorInfo};

/// Values of a plan: those of the graph and those that lowering adds.
pub(super) struct Memory {
    infos: Vec<TensorInfo>,
    /// A value whose bytes are part of another's, and where.
    parents: BTreeMap<ValueId, (ValueId, usize)>,
    /// Constants that steps read from the arena.
    constants: BTreeMap<ValueId, Vec<i8>>,
    /// Values that only reshapes and one concatenation read: they may be made in place.
    may_move: Vec<bool>,
    keep_all: bool,
}

/// Where everything lies.
pub(super) struct Layout {
    slots: BTreeMap<ValueId, Slot>,
    /// One for each draft.
    pub scratch: Vec<Slot>,
    pub bytes: usize,
}

impl Memory {
    pub fn new(graph: &Graph, keep_all: bool) -> Self {
        let mut may_move = vec![true; graph.values.len()];
        for node in &graph.nodes {
            let moves = matches!(node.op, Op::Reshape | Op::Concat { .. } | Op::Pack { .. });
            for id in node.inputs.iter().filter(|_| !moves) {
                may_move[id.0] = false;
            }
        }
        for id in graph.inputs.iter().chain(&graph.outputs) {
            may_move[id.0] = false;
        }
        Self {
            infos: graph
                .values
                .iter()
                .map(|value| value.info.clone())
                .collect(),
            parents: BTreeMap::new(),
            constants: BTreeMap::new(),
            may_move,
            keep_all,
        }
    }

    pub fn info(&self, id: ValueId) -> &TensorInfo {
        &self.infos[id.0]
    }

    /// A value that the graph does not have.
    pub fn add_value(&mut self, info: TensorInfo) -> ValueId {
        self.infos.push(info);
        self.may_move.push(false);
        ValueId(self.infos.len() - 1)
    }

    /// Has a constant lie in the arena, uint8 codes shifted by 128.
    pub fn preload(&mut self, id: ValueId, data: &TensorData) {
        let bytes = match data {
            TensorData::U8(codes) => codes.iter().map(|&code| (code ^ 0x80) as i8).collect(),
            other => bytemuck::cast_slice(other.view().bytes()).to_vec(),
        };
        self.constants.insert(id, bytes);
    }

    pub fn constants(&self) -> impl Iterator<Item = (ValueId, &[i8])> {
        self.constants
            .iter()
            .map(|(&id, bytes)| (id, bytes.as_slice()))
    }

    fn bytes(&self, id: ValueId) -> usize {
        let info = self.info(id);
        info.shape.elements() * info.dtype.size()
    }

    /// The value whose bytes hold those of `id`, and where they begin.
    pub fn root(&self, id: ValueId) -> (ValueId, usize) {
        let mut at = (id, 0);
        while let Some(&(parent, offset)) = self.parents.get(&at.0) {
            at = (parent, at.1 + offset);
        }
        at
    }

    /// Makes `value` another name of the same bytes as `source`.
    pub fn alias(&mut self, value: ValueId, source: ValueId) {
        self.may_move[source.0] &= self.may_move[value.0];
        let (root, _) = self.root(source);
        self.may_move[root.0] &= self.may_move[value.0];
        self.parents.insert(value, (source, 0));
    }

    /// Lets the bytes of `part` be made where they belong inside `whole`. `false` if they must be copied.
    pub fn make_inside(&mut self, part: ValueId, whole: ValueId, offset: usize) -> bool {
        let (root, start) = self.root(part);
        let free = !self.keep_all
            && start == 0
            && root != self.root(whole).0
            && self.bytes(root) == self.bytes(part)
            && self.may_move[part.0]
            && self.may_move[root.0]
            && !self.constants.contains_key(&root)
            && (self.info(part).dtype != DType::F32 || offset.is_multiple_of(4));
        if free {
            // Its bytes have a place now; a second whole gets a copy.
            self.may_move[root.0] = false;
            self.parents.insert(root, (whole, offset));
        }
        free
    }

    /// Lifetimes by first and last use; inputs, constants, outputs and, if all are kept, every value live throughout.
    pub fn layout(&self, drafts: &[Draft], inputs: &[ValueId], outputs: &[ValueId]) -> Layout {
        let end = drafts.len();
        let mut lives: BTreeMap<ValueId, Lifetime> = BTreeMap::new();
        let mut names: BTreeMap<ValueId, ()> = BTreeMap::new();
        let mut touch = |id: ValueId, first: usize, last: usize| {
            names.insert(id, ());
            let (root, _) = self.root(id);
            let bytes = self.bytes(root);
            let life = lives.entry(root).or_insert(Lifetime { bytes, first, last });
            life.first = life.first.min(first);
            life.last = life.last.max(last);
        };
        for &id in inputs.iter().chain(self.constants.keys()) {
            touch(id, 0, end);
        }
        for (at, draft) in drafts.iter().enumerate() {
            for &id in draft.inputs.iter().chain(&draft.outputs) {
                let last = if self.keep_all { end } else { at };
                touch(id, at, last);
            }
        }
        for &id in outputs {
            touch(id, end, end);
        }
        for &id in self.parents.keys() {
            if self.keep_all || lives.contains_key(&self.root(id).0) {
                names.insert(id, ());
            }
        }
        let roots: Vec<ValueId> = lives.keys().copied().collect();
        let mut pieces: Vec<Lifetime> = lives.values().copied().collect();
        pieces.extend(drafts.iter().enumerate().map(|(at, draft)| Lifetime {
            bytes: draft.scratch,
            first: at,
            last: at,
        }));
        let (offsets, bytes) = place(&pieces);
        let starts: BTreeMap<ValueId, usize> =
            roots.iter().copied().zip(offsets.iter().copied()).collect();
        let slots = names
            .keys()
            .filter_map(|&id| {
                let (root, inside) = self.root(id);
                let offset = starts.get(&root)? + inside;
                let bytes = self.bytes(id);
                Some((id, Slot { offset, bytes }))
            })
            .collect();
        let scratch = offsets[roots.len()..]
            .iter()
            .zip(drafts)
            .map(|(&offset, draft)| Slot {
                offset,
                bytes: draft.scratch,
            })
            .collect();
        Layout {
            slots,
            scratch,
            bytes,
        }
    }
}

impl Layout {
    /// Whether any step or alias gave the value a place.
    pub fn has(&self, id: ValueId) -> bool {
        self.slots.contains_key(&id)
    }

    /// Where a value lies; an empty slot for one that nothing touches.
    pub fn slot(&self, id: ValueId) -> Slot {
        self.slots.get(&id).copied().unwrap_or_default()
    }
}
