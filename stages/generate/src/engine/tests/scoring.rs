//! Weighing tokens: as a plain softmax of the logits, and the same bits in any company.

use super::*;
use crate::ops::Run;

fn prompts() -> Vec<Arc<[u32]>> {
    let cue: Vec<u32> = (0..70).map(|i| (i * 37 + 5) % 128).collect();
    (0..24u32)
        .map(|row| {
            cue.iter()
                .copied()
                .chain((0..row % 9).map(|i| (i * 11 + row) % 128))
                .collect()
        })
        .collect()
}

fn weigh(engine: &mut Engine, prompts: &[Arc<[u32]>], tokens: &Arc<[u32]>) -> Vec<Vec<f64>> {
    let mut results = vec![Vec::new(); prompts.len()];
    for (ticket, prompt) in prompts.iter().enumerate() {
        engine
            .submit_scored(ticket as u64, prompt.clone(), tokens.clone())
            .unwrap();
    }
    engine
        .run(&mut |ticket, finished| results[ticket as usize] = finished.unwrap().scores)
        .unwrap();
    results
}

#[test]
fn scores_are_the_log_softmax_of_the_last_logits() {
    let prompts = prompts();
    let tokens: Arc<[u32]> = Arc::from([3, 77, 127, 4000]);
    let options = Options {
        threads: Some(2),
        ..Options::default()
    };
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options).unwrap();
    let together = weigh(&mut engine, &prompts, &tokens);
    for (prompt, scores) in prompts.iter().zip(&together) {
        let decoder = random_model(serde_json::json!({}));
        let run = Run {
            unit: Unit::best(),
            threads: 1,
        };
        let mut cache = Cache::new(decoder.cache_shape(), Vec::new(), prompt.len(), &Meter::default());
        let mut slots = [Slot {
            tokens: prompt,
            cache: &mut cache,
        }];
        let logits: Vec<Vec<f32>> = decoder
            .forward(run, &mut slots, Wanted::Last)
            .unwrap()
            .to_vec2()
            .unwrap();
        let total: f64 = logits[0].iter().map(|logit| f64::from(*logit).exp()).sum();
        for (token, score) in tokens.iter().zip(scores).take(3) {
            let plain = f64::from(logits[0][*token as usize]) - total.ln();
            assert!((plain - score).abs() < 1e-6, "{plain} {score}");
        }
        assert_eq!(scores[3], f64::NEG_INFINITY, "no such token");
    }
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), Options::default()).unwrap();
    for (row, prompt) in prompts.iter().enumerate().rev() {
        let alone = weigh(&mut engine, std::slice::from_ref(prompt), &tokens);
        assert_eq!(alone[0], together[row], "row {row} alone, in another order");
    }
}
