#![allow(clippy::unwrap_used)]
use super::*;
use crate::checkpoint::Checkpoint;
use crate::kernel::Unit;
use crate::sampler::Stream;
use crate::weights::Weights;
use candle_core::{DType, Device};
use half::{bf16, f16};
use std::collections::HashMap;

const RUN: fn(Unit, usize) -> Run = |unit, threads| Run { unit, threads };

fn noise(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(3, "weight", name, 0, 0);
    (0..count)
        .map(|i| (4.0 * stream.uniform(i as u64) - 2.0) as f32)
        .collect()
}

fn tensor(name: &str, rows: usize, columns: usize, dtype: DType) -> Tensor {
    let tensor = Tensor::from_vec(noise(name, rows * columns), (rows, columns), &Device::Cpu).unwrap();
    tensor.to_dtype(dtype).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.iter().map(|value| value.to_bits()).collect()
}

/// Widening inside the product gives what conversion before it gives, on every unit, for every number of rows.
#[test]
fn half_weights_give_the_bits_of_converted_ones() {
    for dtype in [DType::F16, DType::BF16] {
        for (columns, inner) in [(7, 33), (20, 96)] {
            let own = tensor("w", columns, inner, dtype);
            let converted = Weight::new(&own.to_dtype(DType::F32).unwrap()).unwrap();
            let own = Weight::new(&own).unwrap();
            for rows in [1, 3, 7, 40] {
                let x = tensor("x", rows, inner, DType::F32);
                for unit in Unit::all() {
                    let product = |weight: &Weight| bits(&weight.product(RUN(unit, 2), &x).unwrap());
                    assert_eq!(product(&own), product(&converted), "{dtype:?} {rows} {}", unit.name());
                }
            }
            assert_eq!(
                bits(&own.gather(&[2, 0, 2], RUN(Unit::best(), 1)).unwrap()),
                bits(&converted.gather(&[2, 0, 2], RUN(Unit::best(), 1)).unwrap())
            );
        }
    }
}

/// Every half-precision number and every bfloat16 is widened as the `half` crate does it; NaN stays NaN.
#[test]
fn every_half_number_is_widened_exactly() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let ones: Vec<Tensor> = [16, 1]
        .iter()
        .map(|n| Tensor::ones((*n, 1), DType::F32, &Device::Cpu).unwrap())
        .collect();
    let halves: Vec<f16> = all.iter().map(|bits| f16::from_bits(*bits)).collect();
    let brains: Vec<bf16> = all.iter().map(|bits| bf16::from_bits(*bits)).collect();
    let wide: [Vec<f32>; 2] = [
        halves.iter().map(|x| x.to_f32()).collect(),
        brains.iter().map(|x| x.to_f32()).collect(),
    ];
    let own = [
        Tensor::from_vec(halves, (1 << 16, 1), &Device::Cpu).unwrap(),
        Tensor::from_vec(brains, (1 << 16, 1), &Device::Cpu).unwrap(),
    ];
    for (own, wide) in own.iter().zip(&wide) {
        let own = Weight::new(own).unwrap();
        for unit in Unit::all() {
            for one in &ones {
                let products: Vec<f32> = own
                    .product(RUN(unit, 1), one)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1()
                    .unwrap();
                for (product, wide) in products.iter().zip(wide) {
                    // Adding zero turns -0 into 0; nothing else changes.
                    let same = product.to_bits() == (wide + 0.0).to_bits() || product.is_nan() && wide.is_nan();
                    assert!(same, "{product} {wide} {}", unit.name());
                }
            }
        }
    }
}

/// A folder with the files that a checkpoint must have; only the weights matter.
fn checkpoint(tensors: &HashMap<String, Tensor>) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}

#[test]
fn matrices_stay_in_the_map_and_what_is_wrong_with_them_is_told() {
    let mut tensors = HashMap::new();
    for (name, dtype) in [
        ("a", DType::F32),
        ("b", DType::F16),
        ("c", DType::BF16),
        ("d", DType::F64),
    ] {
        tensors.insert(name.to_owned(), tensor(name, 6, 20, dtype));
    }
    let (_folder, checkpoint) = checkpoint(&tensors);
    let mut weights = Weights::open(&checkpoint, DType::F32, &Device::Cpu).unwrap();
    let x = tensor("x", 3, 20, DType::F32);
    for name in ["a", "b", "c"] {
        let mapped = weights.matrix(name, 6, 20).unwrap();
        assert!(format!("{mapped:?}").contains("mapped"), "{mapped:?}");
        let held = Weight::new(&tensors[name]).unwrap();
        let product = |weight: &Weight| bits(&weight.product(RUN(Unit::best(), 1), &x).unwrap());
        assert_eq!(product(&mapped), product(&held));
        let part = mapped.narrow(2, 3).unwrap();
        let rows: Vec<u32> = product(&held).chunks(6).flat_map(|row| row[2..5].to_vec()).collect();
        assert_eq!(product(&part), rows);
        assert!(mapped.narrow(4, 3).is_err() && mapped.gather(&[6], RUN(Unit::best(), 1)).is_err());
    }
    for (name, rows, problem) in [("a", 5, "shape"), ("d", 6, "F64"), ("e", 6, "missing")] {
        let error = weights.matrix(name, rows, 20).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert!(Weight::new(&tensors["d"]).is_err());
}

/// Weights that do not lie as their type must are copied, and give the same.
#[test]
fn a_map_that_is_not_aligned_is_copied() {
    let tensors = HashMap::from([("a".to_owned(), tensor("a", 6, 20, DType::F32))]);
    let (folder, _) = checkpoint(&tensors);
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // One blank more in the header moves every tensor by a byte.
    let moved = [
        &(length as u64 + 1).to_le_bytes()[..],
        &bytes[8..8 + length],
        b" ",
        &bytes[8 + length..],
    ];
    std::fs::write(&path, moved.concat()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let mut weights = Weights::open(&checkpoint, DType::F32, &Device::Cpu).unwrap();
    let copied = weights.matrix("a", 6, 20).unwrap();
    assert!(format!("{copied:?}").contains("in memory"), "{copied:?}");
    let all: Vec<u32> = (0..6).collect();
    assert_eq!(
        bits(&copied.gather(&all, RUN(Unit::best(), 1)).unwrap()),
        bits(&tensors["a"])
    );
}
