# Shell at work: redirections, here documents, sed -i, tee, truncation, append, pipes.
mkdir -p logs out
for i in $(seq 1 25); do
	echo "line $i" >> logs/all.log
	echo "only $i" > logs/last
	: > logs/empty
	cat > "out/here$i" <<EOF
a document of $i
with $(seq -s ' ' 1 $i)
EOF
	sed -i "s/document/paper/" "out/here$i"
	seq 1 $((i * 20)) | sort -r | tee out/sorted out/sorted.copy > /dev/null
	{ echo one; echo two >&2; } > out/both 2>&1
	exec 3<> out/readwrite; echo "through three $i" >&3; exec 3>&-
	head -c $((i * 1000)) /dev/zero | tr '\0' x > out/large
	printf '%s' "$i" 1<> out/overwritten
	cat out/here* > out/together; wc -c < out/together > out/count
	cp out/large out/large.copy; mv out/large.copy "out/large.$((i % 3))"
	dd if=out/large of=out/patched bs=100 count=2 seek=$i conv=notrunc 2> logs/dd
	[ $((i % 5)) != 0 ] || { rm -f out/here1*; truncate -s 10 out/together; chmod 600 out/both; touch -d @1000000 out/count; }
done
(for i in $(seq 1 50); do echo "a $i"; done >> logs/parallel) & (for i in $(seq 1 50); do echo "b $i"; done >> logs/parallel) &
wait
rm -rf out/sorted logs/empty
