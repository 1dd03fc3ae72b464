"""What each field of a request does, in a sentence; and which do nothing, and why. Pure.

Ranges stand in the structs; here is only what a struct cannot say. A test asks for a sentence for every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NO_EFFECT: Final[Mapping[str, str]] = {
    "user": "a node keeps no profile of whoever stands behind a caller.",
    "metadata": "labels for the caller's own records.",
    "service_tier": "there is one tier; who goes first follows from who asks.",
    "safety_identifier": "a node reports its users to nobody.",
    "priority": "who goes first follows from who asks, not from what they say.",
    "prompt_cache_key": "the node finds shared beginnings of prompts by itself.",
    "prompt_cache_retention": "the node keeps prompts in its cache as long as there is room.",
    "prompt_cache_options": "the node finds shared beginnings of prompts by itself.",
    "verbosity": "open models have no such dial; say it in the prompt.",
    "include_obfuscation": "padding against traffic analysis; it changes no answer.",
    "cache_control": "the node finds shared beginnings of prompts by itself.",
    "prompt_cache_breakpoint": "the node finds shared beginnings of prompts by itself.",
    "annotations": "what a server added to its own answer.",
}
"""Fields that are taken and change nothing, with the reason."""

MEANINGS: Final[Mapping[str, str]] = {
    # what is asked
    "model": "The model's name or alias; left out, the node's default.",
    "messages": "The conversation so far, oldest first.",
    "template": "A stored prompt, as `name` or `name@version`: its messages come before those sent.",
    "variables": "What to put into the template's places; all must be given, and no others.",
    "prompt": "The text to continue, or its token ids, taken as they are: no chat template.",
    "input": "What to turn into vectors.",
    "encoding_format": "How vectors are written: numbers, or base64 of little-endian float32.",
    "dimensions": "Cut the vectors to so many numbers, for models that are made for it.",
    "tools": "Functions the model may call.",
    "tool_choice": "Whether the model must, may or must not call, and which functions.",
    "parallel_tool_calls": "Whether several calls may come in one answer.",
    "reasoning_effort": "How long a model that thinks should think; handed to its chat template.",
    "chat_template_kwargs": "Variables for the model's chat template.",
    "content": "The text.",
    "text": "The text, under its other name.",
    "tokens": "The token ids.",
    "add_special": "Put the model's own first and last tokens around it.",
    "with_pieces": "Tell for each token what it stands for.",
    "parse_special": "Whether special tokens in the text are read as such.",
    # the form of the answer
    "response_format": "The form of the answer: text, JSON, or JSON of a schema.",
    "grammar": "A grammar (GBNF) that the answer must follow.",
    "json_schema": "A JSON schema that the answer must follow.",
    "guided_json": "vLLM's name for a JSON schema that the answer must follow.",
    "guided_regex": "A regular expression that the answer must match.",
    "guided_choice": "The answer is one of these strings.",
    "guided_grammar": "A grammar (GBNF) that the answer must follow.",
    "structured_outputs": "vLLM's object for the same: json, regex, choice, grammar or json_object.",
    # how much, and when it ends
    "max_tokens": "The longest answer, in tokens.",
    "max_completion_tokens": "The longest answer, in tokens; goes before max_tokens.",
    "min_tokens": "The answer does not end before so many tokens.",
    "stop": "The answer ends before any of these strings.",
    "stop_token_ids": "The answer ends at any of these tokens.",
    "ignore_eos": "Go on when the model would end.",
    "n": "How many answers to give.",
    "best_of": "Make so many answers and give the best.",
    "echo": "Give the prompt before the answer.",
    "suffix": "The text after the gap that is to be filled.",
    # how tokens are drawn
    "temperature": "How freely tokens are drawn; 0 always takes the likeliest.",
    "top_p": "Draw only from the likeliest tokens that together have this probability.",
    "top_k": "Draw only from so many of the likeliest tokens; 0 and -1 mean all.",
    "min_p": "Draw only from tokens at least this likely, measured by the likeliest.",
    "typical_p": "Draw only from tokens about as surprising as is usual, together of this probability.",
    "top_n_sigma": "Draw only from tokens within so many standard deviations of the best; below 0 is off.",
    "xtc_probability": "How often the likeliest choices are left out (XTC).",
    "xtc_threshold": "From which probability on a token counts as such a choice.",
    "dry_multiplier": "How strongly repeated sequences are held back (DRY); 0 is off.",
    "dry_base": "How fast that grows with the length of the repetition.",
    "dry_allowed_length": "Repetitions up to so many tokens are free.",
    "dry_penalty_last_n": "How far back repetitions are looked for, in tokens; -1 is all.",
    "dry_sequence_breakers": "Strings over which no repetition reaches.",
    "mirostat": "Mirostat 1 or 2 in place of the samplers above; 0 is off.",
    "mirostat_tau": "How surprising the text should be.",
    "mirostat_eta": "How fast that is adjusted.",
    "repeat_penalty": "Makes tokens that came lately less likely; 1 is off.",
    "repeat_last_n": "How far back that looks, in tokens; -1 is all.",
    "frequency_penalty": "Makes tokens less likely the more often they came.",
    "presence_penalty": "Makes tokens less likely that came at all.",
    "logit_bias": "Adds to the logits of tokens, by token id.",
    "bad_words": "Texts that must not come.",
    "seed": "The same seed, request and model give the same answer, whatever else the node does.",
    "logprobs": "Tell how likely each token was (chat: true or false; completions: of how many tokens).",
    "top_logprobs": "Tell it of so many other tokens at each place.",
    # how it is answered
    "stream": "Send the answer piece by piece, as server-sent events.",
    "stream_options": "What a stream tells beside the text.",
    "include_usage": "A last chunk with the token counts.",
    "cache_prompt": "Set to false, the prompt is computed anew.",
    "deadline_ms": "How long the whole answer may take, in milliseconds.",
    "session_id": "Which conversation this belongs to: its requests go to the same place. Also as `x-session-id`.",
    # documented elsewhere
    "store": "Keep the answer, to be had again by its id.",
    "async_mode": "Answer at once with an id, to be asked for the answer later.",
    "lora": "Adapters to put on the model.",
    "models": "Models to try in turn.",
    "fallback_models": "Models to try when the first one fails.",
    "provider": "Which peers may answer, and in which order.",
    "privacy": "Who may see the prompt.",
    "max_cost": "What the answer may cost.",
    "transforms": "How to shorten a conversation that is too long.",
    "plugins": "OpenRouter's way to say so.",
    "functions": "OpenAI's older way to offer tools.",
    "function_call": "OpenAI's older way to choose one.",
    "modalities": "What the answer may consist of.",
    "modality": "What the answer consists of.",
    "audio": "How to speak the answer.",
    "image": "How to paint the answer.",
    "prediction": "What the answer will probably be.",
    "web_search_options": "How to search the web.",
    "moderation": "Whether to judge the conversation.",
}
"""By the field's name."""

INSIDE: Final[Mapping[str, Mapping[str, str]]] = {
    "MessageFields": {
        "role": "Who speaks.",
        "content": "What was said.",
        "name": "Whose message it is, among several of one role.",
        "tool_calls": "The calls an assistant made.",
        "tool_call_id": "Which call a tool's message answers.",
        "refusal": "An assistant's refusal, sent back.",
        "reasoning_content": "What the assistant thought, sent back; the model's template decides what it sees.",
        "reasoning": "The same under its other name.",
    },
    "TextFields": {"prompt": "The text, under its other name."},
    "TemplateFields": {"messages": "The messages, with places as `{{name}}`."},
    "TurnFields": {"role": "Who speaks.", "content": "What is said, with places as `{{name}}`."},
    "ToolFields": {"type": "Only functions.", "function": "The function."},
    "FunctionFields": {
        "name": "Its name.",
        "description": "What it does, for the model.",
        "parameters": "Its arguments, as a JSON schema.",
        "strict": "Hold the arguments to the schema.",
    },
    "CallFields": {"id": "The call's id.", "function": "What was called.", "index": "Its place, as streams tell it."},
    "CalledFields": {"name": "The function.", "arguments": "Its arguments, as JSON text."},
    "ResponseFormat": {"type": "Which form.", "json_schema": "The schema, for json_schema."},
    "SchemaFormat": {
        "name": "A name for it.",
        "description": "What it is for.",
        "schema": "The JSON schema.",
        "strict": "Refuse schemas that cannot be held whole.",
    },
    "PullFields": {"source": "`default`, a URL, a file, or `hf:owner/repo:quant`."},
    "AddFields": {"path": "A GGUF file of the node's machine.", "name": "How to call it."},
    "JoinFields": {"address": "A multiaddr that ends in `/p2p/` and a peer id."},
    "ServeFields": {"model": "A model of this node.", "on": "Whether strangers may use it."},
}
"""By the struct's name and the field's; goes before the table of all."""


def meaning(kind: type, name: str) -> str:
    """What a field of a struct does; empty where nobody said."""
    own = (INSIDE[base.__name__][name] for base in kind.__mro__ if name in INSIDE.get(base.__name__, ()))
    return next(own, "") or MEANINGS.get(name, "")
