// The WordPiece tokenizer of BERT (Devlin et al., 2018, arXiv:1810.04805), which ERNIE uses: clean and split the text,
// remove accents, convert to lower case, then split each word into the longest pieces of the vocabulary, from the left.
#pragma once

#include "unicode.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace ernie {

// The characters of a text as Python stores them: all in the smallest width that can hold them. Values up to 0x10FFFF.
struct Text {
    const void* characters;
    std::size_t length;
    int width;  // bytes for each character: 1, 2 or 4
};

// Which characters are words of their own: those of BERT's tokenizer, or also the symbols of PaddleNLP's.
enum class Rules { kBert, kPaddleNlp };

struct Options {
    bool lower_case = true;
    bool strip_accents = true;
    bool split_cjk = true;
    Rules rules = Rules::kBert;
    bool fold_width = false;  // full-width letters and digits are read as ASCII
};

// Which special tokens become their ids when they are written in a text. The others are brackets and letters.
enum class Specials { kNone, kMask, kAll };

// Token ids, and for each token the index of the character at which it begins.
struct Tokens {
    std::vector<std::int32_t> ids, starts;

    std::size_t size() const { return ids.size(); }
    void reserve(std::size_t size) {
        ids.reserve(size);
        starts.reserve(size);
    }
    void append(std::int32_t id, std::int32_t start, std::int32_t) {
        ids.push_back(id);
        starts.push_back(start);
    }
    void shrink(std::size_t size) {
        ids.resize(size);
        starts.resize(size);
    }
};

// Tokens that also have the index after their last character.
struct SpannedTokens : Tokens {
    std::vector<std::int32_t> ends;

    void reserve(std::size_t size) {
        Tokens::reserve(size);
        ends.reserve(size);
    }
    void append(std::int32_t id, std::int32_t start, std::int32_t end) {
        Tokens::append(id, start, end);
        ends.push_back(end);
    }
    void shrink(std::size_t size) {
        Tokens::shrink(size);
        ends.resize(size);
    }
};

// The vocabulary as a trie whose edges are in one hash table. Continuation pieces ("##x") have a separate root.
class PieceTrie {
public:
    static constexpr std::uint32_t kWordStart = 1, kContinuation = 2;

    struct Edge {
        std::uint32_t parent;  // 0 is an empty slot
        char32_t character;
        std::uint32_t child;
        std::int32_t id;  // of the piece that ends here, or -1
    };

    explicit PieceTrie(std::size_t characters);
    void insert(const std::u32string& token, std::int32_t id);
    const Edge* find(std::uint32_t parent, char32_t character) const {
        for (std::size_t at = slot(parent, character);; at = (at + 1) & mask_) {
            const Edge& edge = edges_[at];
            if (edge.parent == parent && edge.character == character) return &edge;
            if (edge.parent == 0) return nullptr;
        }
    }

private:
    std::size_t slot(std::uint32_t parent, char32_t character) const {
        const std::uint64_t key = (std::uint64_t{parent} << 32 | character) * 0x9E3779B97F4A7C15u;
        return key >> 32 & mask_;
    }

    std::vector<Edge> edges_;
    std::size_t mask_;
    std::uint32_t nodes_ = kContinuation + 1;
};

// Constant after construction, so several threads may use one instance.
class ErnieTokenizer {
public:
    static constexpr std::size_t kLongestWord = 100;  // characters; a longer word is [UNK]
    static constexpr std::int32_t kNone = -1;

    // The id of a token is its index; if the token occurs twice, the last index. Throws std::invalid_argument if a
    // token is empty or a special token is missing.
    ErnieTokenizer(std::vector<std::u32string> tokens, Options options);

    // Appends the tokens of `text`, without [CLS] and [SEP].
    void tokenize(const Text& text, Specials specials, Tokens& tokens) const;
    void tokenize(const Text& text, Specials specials, SpannedTokens& tokens) const;

    const std::vector<std::u32string>& tokens() const { return tokens_; }
    std::int32_t id(const std::u32string& token) const;
    const Options& options() const { return options_; }
    std::size_t duplicates() const { return tokens_.size() - ids_.size(); }

    bool missing_final_newline = false;  // of the vocabulary file
    std::int32_t pad = kNone, cls = kNone, sep = kNone, mask = kNone, unknown = kNone;

private:
    struct Word;
    struct Special {
        std::u32string text;
        std::int32_t id;
    };

    std::uint32_t classify(char32_t character) const;
    std::uint32_t action(char32_t character) const {
        return character < actions_.size() ? actions_[character] : classify(character);
    }
    int normalise(char32_t character, char32_t* out) const;
    std::int32_t id_of_single(char32_t character) const;
    template <class Character>
    const Special* special_at(const Character* text, std::size_t length, Specials specials) const;
    bool is_alone(const unicode::Character& known) const {
        return known.kind == unicode::kPunctuation ||
               (known.kind == unicode::kSymbol && options_.rules == Rules::kPaddleNlp);
    }
    template <class Sink> void tokenize_any(const Text& text, Specials specials, Sink& sink) const;
    template <class Character, class Sink>
    void scan(const Character* text, std::size_t length, Specials specials, Sink& sink) const;
    template <class Sink> void add_normalised(char32_t character, std::size_t position, Word& word, Sink& sink) const;
    template <class Sink> void finish(Word& word, Sink& sink) const;

    std::vector<std::u32string> tokens_;
    std::unordered_map<std::u32string, std::int32_t> ids_;
    Options options_;
    PieceTrie trie_;
    std::vector<Special> specials_;
    std::vector<std::uint32_t> actions_;  // for each character of the Basic Multilingual Plane
};

}  // namespace ernie
