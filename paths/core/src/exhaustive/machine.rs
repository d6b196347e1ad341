//! Shipped state machines as parts of one large state.
//!
//! A machine is known by a number that stands for everything that decides about its future
//! ([`Machine::projection`]), so a state of the whole is a few numbers. What a machine does with an
//! input is found out once: a fresh one is led through a history that ends in that state, and then
//! given the input. Nothing is cloned, so the machines need not be made for it.
//!
//! That two histories with the same projection have the same future is tested: for every step that
//! is taken, a second history that leads to the same state is tried as well, where there is one.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// Something that is driven by inputs and answers them.
pub(super) trait Machine {
    type Input: Clone + Eq + Hash + Debug;
    type Output: PartialEq + Debug;
    /// What all machines of a kind share: names for values that are large.
    type Context;

    /// One that has had no input.
    fn start(number: u8) -> Self;

    fn apply(&mut self, input: &Self::Input, context: &mut Self::Context) -> Self::Output;

    /// Everything that decides about its future, as text.
    fn projection(&self) -> String;
}

/// Stands for a machine's state.
pub(super) type Id = u32;

/// All states of one kind of machine that were reached, and what leads from one to another.
pub(super) struct Machines<M: Machine> {
    reached: Vec<Reached<M::Input>>,
    known: HashMap<u128, Id>,
    steps: HashMap<(Id, M::Input), Stepped<M>>,
}

/// Where a step leads to, and what it is answered.
type Stepped<M> = (Id, Arc<<M as Machine>::Output>);

struct Reached<I> {
    number: u8,
    history: Vec<I>,
    /// Another history that leads here.
    second: Option<Vec<I>>,
}

impl<M: Machine> Machines<M> {
    pub(super) fn new() -> Self {
        Self {
            reached: Vec::new(),
            known: HashMap::new(),
            steps: HashMap::new(),
        }
    }

    /// States reached.
    pub(super) fn count(&self) -> usize {
        self.reached.len()
    }

    /// A fresh machine.
    pub(super) fn start(&mut self, number: u8) -> Id {
        let name = name(number, &M::start(number).projection());
        self.arrive(number, name, Vec::new())
    }

    /// What becomes of the machine `id` with `input`, and what it answers.
    pub(super) fn step(
        &mut self,
        id: Id,
        input: &M::Input,
        context: &mut M::Context,
    ) -> Stepped<M> {
        if let Some((next, output)) = self.steps.get(&(id, input.clone())) {
            return (*next, Arc::clone(output));
        }
        let from = &self.reached[id as usize];
        let number = from.number;
        let found = replay::<M>(number, &from.history, input, context);
        if let Some(second) = &from.second {
            let other = replay::<M>(number, second, input, context);
            assert!(
                other == found,
                "{:?} and {second:?} look alike, and {input:?} tells them apart",
                from.history
            );
        }
        let (next, output) = found;
        let mut history = from.history.clone();
        history.push(input.clone());
        let next = self.arrive(number, next, history);
        let output = Arc::new(output);
        self.steps
            .insert((id, input.clone()), (next, Arc::clone(&output)));
        (next, output)
    }

    fn arrive(&mut self, number: u8, name: u128, history: Vec<M::Input>) -> Id {
        let new = self.reached.len() as Id;
        let id = *self.known.entry(name).or_insert(new);
        if id == new {
            self.reached.push(Reached {
                number,
                history,
                second: None,
            });
        } else {
            let known = &mut self.reached[id as usize];
            if known.history != history {
                known.second = Some(history);
            }
        }
        id
    }
}

/// The state that `input` leads to after `history`, and the answer.
fn replay<M: Machine>(
    number: u8,
    history: &[M::Input],
    input: &M::Input,
    context: &mut M::Context,
) -> (u128, M::Output) {
    let mut machine = M::start(number);
    for input in history {
        machine.apply(input, context);
    }
    let output = machine.apply(input, context);
    (name(number, &machine.projection()), output)
}

/// 128 bits that stand for a projection: no two of some millions share them.
fn name(number: u8, projection: &str) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, number, projection).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
