"""Cases of ONNX's test suite that are left out, each with the reason."""

RANDOM = "compares random draws that have no seed, or are drawn in another order"
RUNNER = "ONNX's runner cannot compare an element without dimensions (test_stepwise does)"
HALF = "another order of roundings in half precision, by one unit in the last place"

EXCLUDED = {
    "test_attention_4d_causal_fp16_expanded": HALF,
    "test_bernoulli": RANDOM,
    "test_bernoulli_double": RANDOM,
    "test_bernoulli_double_expanded": RANDOM,
    "test_bernoulli_expanded": RANDOM,
    "test_bernoulli_seed": RANDOM,
    "test_bernoulli_seed_expanded": RANDOM,
    "test_loop16_seq_none": RUNNER,
}
