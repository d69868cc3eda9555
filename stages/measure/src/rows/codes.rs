//! Values as small numbers: equal numbers, equal values. The numbers follow the order of rows, so they are in no result.

use std::collections::HashMap;

use arrow::array::{Array, LargeStringArray};

use crate::read;

/// Each row's value as a number.
pub struct Codes {
    /// For each row its number.
    pub of_row: Vec<u32>,
    /// A row that has each value.
    pub example: Vec<usize>,
}

impl Codes {
    /// All rows are equal.
    pub fn one(rows: usize) -> Self {
        Self {
            of_row: vec![0; rows],
            example: if rows == 0 { Vec::new() } else { vec![0] },
        }
    }

    /// Rows that agree in a column.
    pub fn of(column: &LargeStringArray) -> Self {
        let mut known: HashMap<Option<&str>, u32> = HashMap::new();
        let mut codes = Self {
            of_row: Vec::with_capacity(column.len()),
            example: Vec::new(),
        };
        for row in 0..column.len() {
            let next = codes.example.len() as u32;
            let code = *known.entry(read::at(column, row)).or_insert(next);
            if code == next {
                codes.example.push(row);
            }
            codes.of_row.push(code);
        }
        codes
    }

    /// Rows that agree in both.
    pub fn and(&self, other: &Self) -> Self {
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        let mut codes = Self {
            of_row: Vec::with_capacity(self.of_row.len()),
            example: Vec::new(),
        };
        for (row, pair) in self
            .of_row
            .iter()
            .copied()
            .zip(other.of_row.iter().copied())
            .enumerate()
        {
            let next = codes.example.len() as u32;
            let code = *known.entry(pair).or_insert(next);
            if code == next {
                codes.example.push(row);
            }
            codes.of_row.push(code);
        }
        codes
    }

    /// Rows that agree in all columns.
    pub fn all(columns: &[LargeStringArray], rows: usize) -> Self {
        columns
            .iter()
            .fold(Self::one(rows), |codes, column| codes.and(&Self::of(column)))
    }
}
