#![allow(clippy::unwrap_used)]
//! Weights are unpacked as `gguf.dequantize` does it, and products have the bits of products with unpacked weights.

use super::*;
use crate::kernel::Matrix;
use crate::kernel::product;
use crate::kernel::tests::unwritten;
use crate::sampler::Stream;
use std::collections::BTreeMap;
use std::path::Path;

const FORMATS: [(Format, &str); 8] = [
    (Format::F16, "F16"),
    (Format::Bf16, "BF16"),
    (Format::Q4_0, "Q4_0"),
    (Format::Q5_0, "Q5_0"),
    (Format::Q8_0, "Q8_0"),
    (Format::Q4K, "Q4_K"),
    (Format::Q5K, "Q5_K"),
    (Format::Q6K, "Q6_K"),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

/// Random bytes; scales (wherever a format has them) are kept finite by clearing one bit of every other byte.
fn random(format: Format, rows: usize, width: usize) -> Vec<u8> {
    let stream = Stream::new(9, "packed", format.name(), 0, 0);
    let count = rows * (width / format.block()) * format.bytes();
    (0..count)
        .map(|i| (256.0 * stream.uniform(i as u64)) as u8 & 0xBF)
        .collect()
}

fn unpacked(unit: Unit, w: Packed<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; w.rows * w.width];
    for (row, out) in out.chunks_exact_mut(w.width).enumerate() {
        unpack_row(unit, w, row, out);
    }
    out
}

#[test]
fn weights_are_unpacked_as_the_gguf_package_does_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf/blocks.json");
    let cases: BTreeMap<String, [String; 2]> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), FORMATS.len());
    for (format, name) in FORMATS {
        let [packed, told] = &cases[name];
        let packed = bytes(packed);
        let told: Vec<f32> = bytes(told)
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let w = Packed {
            bytes: &packed,
            format,
            rows: 3,
            width: 512,
            order: Order::Straight,
        };
        for unit in Unit::all() {
            let ours = unpacked(unit, w);
            assert_eq!(ours.len(), told.len());
            for (i, (ours, told)) in ours.iter().zip(&told).enumerate() {
                // A zero's sign is lost by the fused form; no sum sees it.
                let same =
                    ours.to_bits() == told.to_bits() || ours.is_nan() && told.is_nan() || *ours == 0.0 && *told == 0.0;
                assert!(same, "{name} {i} on {}: {ours} is not {told}", unit.name());
            }
        }
    }
}

#[test]
fn a_product_has_the_bits_of_one_with_unpacked_weights() {
    for (format, name) in FORMATS {
        let width = 512;
        for (columns, order) in [
            (1, Order::Straight),
            (7, Order::Straight),
            (96, Order::Straight),
            (96, Order::Paired(24)),
        ] {
            let packed = random(format, columns, width);
            let w = Packed {
                bytes: &packed,
                format,
                rows: columns,
                width,
                order,
            };
            let plain = unpacked(Unit::best(), w);
            for rows in [1, 2, 3, 4, 5, 8, 65] {
                let stream = Stream::new(4, "x", name, 0, 0);
                let x: Vec<f32> = (0..rows * width)
                    .map(|i| 2.0 * stream.uniform(i as u64) as f32 - 1.0)
                    .collect();
                let mut wanted = vec![0.0; rows * columns];
                let shape = Shape {
                    rows,
                    columns,
                    inner: width,
                };
                product(Unit::best(), &x, Matrix::F32(&plain), unwritten(&mut wanted), shape, 1);
                assert!(wanted.iter().all(|value| !value.is_nan()), "{name}");
                for unit in Unit::all() {
                    for threads in [1, 2, 3] {
                        let mut out = vec![f32::NAN; rows * columns];
                        packed_product(unit, &x, w, &mut out, rows, threads);
                        let same = out.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(
                            same,
                            "{name} {columns} {order:?}: {rows} rows, {threads} threads, {}",
                            unit.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn paired_rows_come_back_in_halves() {
    let packed: Vec<u8> = (0..8u16)
        .flat_map(|row| [row as f32; 16].map(|x| half::f16::from_f32(x).to_le_bytes()))
        .flatten()
        .collect();
    let w = Packed {
        bytes: &packed,
        format: Format::F16,
        rows: 8,
        width: 16,
        order: Order::Paired(4),
    };
    let first: Vec<f32> = unpacked(Unit::best(), w).chunks(16).map(|row| row[0]).collect();
    assert_eq!(first, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}
