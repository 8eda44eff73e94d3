"""The peers of ``generation.py``: each loads the same GPT-2 weights and goes on greedily from token ids.

A peer is a function(folder) that returns a function(prompt, count) -> the ``count`` ids that follow the prompt's. Each lives in
a process of its own, which keeps its model and is asked again and again: no peer's threads or memory get in another's way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
GoOn = Callable[[list[int], int], list[int]]


def vocablo_(folder: Path, threads: int, dtype: str) -> GoOn:
    """The verb ``generate``: from text to text."""
    import vocablo
    from vocablo.inference.generate import GenerateSettings, generate

    loaded = vocablo.load(folder, dtype=dtype)

    def go_on(prompt: list[int], count: int) -> list[int]:
        text = loaded.tokenizer.decode(prompt)
        return list(
            generate(loaded.model, loaded.tokenizer, text, GenerateSettings(max_tokens=count, greedy=True))[0].ids
        )

    return go_on


def transformers_(folder: Path, threads: int, dtype: str, compiled: bool = False) -> GoOn:
    """``generate`` with the cache that grows; compiled: with a static cache and the forward pass compiled."""
    import torch
    from transformers import GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
    extra: dict[str, Any] = {}
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=False)
        extra["cache_implementation"] = "static"

    def go_on(prompt: list[int], count: int) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                do_sample=False, pad_token_id=0, **extra,
            )  # fmt: skip
        return found[0, len(prompt) :].tolist()

    return go_on


def ctranslate2_(folder: Path, threads: int, dtype: str) -> GoOn:
    import ctranslate2

    converted = folder / "ctranslate2"
    if not converted.exists():
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(converted))
        told = converted / "config.json"  # the tokenizer has no boundaries, and null isn't accepted for them
        told.write_text(re.sub(r'(_token": )null', r'\1"<unk>"', told.read_text()))
    model = ctranslate2.Generator(str(converted), compute_type=dtype, intra_threads=threads)

    def go_on(prompt: list[int], count: int) -> list[int]:
        words = [[f"w{token}" for token in prompt]]
        found = model.generate_batch(
            words, max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False
        )
        return list(found[0].sequences_ids[0])

    return go_on


def llama_cpp_(folder: Path, threads: int, dtype: str) -> GoOn:
    """llama.cpp through its C interface: a step is one ``llama_decode`` and the largest of its logits."""
    import llama_cpp as llama
    import numpy as np

    path = folder / f"{dtype}.gguf"
    if not path.exists():
        write_gguf(folder, path, dtype)
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp doesn't read {path}")
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 1024, 512, 512
    settings.n_threads = settings.n_threads_batch = threads
    context = llama.llama_init_from_model(model, settings)
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def go_on(prompt: list[int], count: int) -> list[int]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        found, tokens = [], prompt
        for _ in range(count):
            ids = (llama.llama_token * len(tokens))(*tokens)
            if llama.llama_decode(context, llama.llama_batch_get_one(ids, len(tokens))):
                raise RuntimeError("llama_decode failed")
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocab,))
            tokens = [int(logits.argmax())]
            found += tokens
        return found

    return go_on


def write_gguf(folder: Path, path: Path, dtype: str) -> None:
    """The folder's weights in llama.cpp's format: matrices in ``dtype``, the rest in float32."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    names = {
        "wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight",
        "ln_f.weight": "output_norm.weight", "ln_f.bias": "output_norm.bias",
    }  # fmt: skip
    inside = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
              "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}  # fmt: skip
    width, count = (
        tensors["transformer.wte.weight"].shape[1],
        1 + max(int(n.split(".")[2]) for n in tensors if ".h." in n),
    )
    for layer in range(count):
        for theirs, name in inside.items():
            for kind in ("weight", "bias"):
                names[f"h.{layer}.{theirs}.{kind}"] = f"blk.{layer}.{name}.{kind}"
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(len(tensors["transformer.wpe.weight"]))
    writer.add_embedding_length(width)
    writer.add_block_count(count)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(width // 64)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(len(tensors["transformer.wte.weight"]))
    writer.add_tokenizer_model("none")
    for theirs, name in names.items():
        tensor = tensors[f"transformer.{theirs}"].astype(np.float32)
        if theirs.startswith("h.") and tensor.ndim == 2:
            tensor = np.ascontiguousarray(tensor.T)
        wanted = kind if tensor.ndim == 2 and "position" not in name else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
