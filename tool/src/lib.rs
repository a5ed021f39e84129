//! The whole stack on one machine: for `layergate local`, and for the tests.

pub mod stack;
