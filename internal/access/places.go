package access

import (
	"iter"
	"slices"
	"sync"

	"sekisho/internal/securitygroup"
)

// byPlace are the doors that are groups, by where these are.
func byPlace(doors []Door) map[securitygroup.Place][]Door {
	res := map[securitygroup.Place][]Door{}
	for _, d := range groupsOf(doors) {
		res[d.Place()] = append(res[d.Place()], d)
	}
	return res
}

// eachPlace looks at places side by side, so that none waits for another that does not
// answer. take is given what look found, one after another, also where look failed too.
// What could not be looked at is in failed, by place.
func eachPlace[T any](places iter.Seq[securitygroup.Place], look func(securitygroup.Place) (T, error), take func(T)) (failed []Failure) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for place := range places {
		all.Go(func() {
			found, err := look(place)
			mu.Lock()
			defer mu.Unlock()
			take(found)
			if err != nil {
				failed = append(failed, failure(place, err))
			}
		})
	}
	all.Wait()
	slices.SortFunc(failed, func(x, y Failure) int { return x.Place.Compare(y.Place) })
	return failed
}
